//! Articles: blocks, sections, what is dropped, formulas.

use super::*;

fn article(meta: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE article PUBLIC \"-//NLM//DTD JATS\" \"JATS.dtd\">\n<article xml:lang=\"EN\" article-type=\"review\">\
         <front><journal-meta><journal-title-group><journal-title>The  J</journal-title></journal-title-group>\
         </journal-meta><article-meta>{meta}</article-meta></front><body>{body}</body><back><p>back</p></back>\
         <sub-article><front><article-meta><title-group><article-title>sub</article-title></title-group>\
         </article-meta></front><body><p>sub</p></body></sub-article></article>"
    )
}

fn body(body: &str) -> String {
    one(article("", body)).text
}

#[test]
fn metadata() {
    let row = one(article(
        "<article-id pub-id-type='publisher-id'>x</article-id><article-id pub-id-type='pmcid'>PMC12</article-id>\
         <article-id pub-id-type='pmid'>34</article-id><article-id pub-id-type='doi'>10/x</article-id>\
         <article-id pub-id-type='doi'>10/second</article-id>\
         <title-group><article-title>The <italic>T</italic><break/>itle<fn><p>note</p></fn> <xref>1</xref></article-title>\
         <subtitle>sub</subtitle><subtitle>no</subtitle><trans-title-group><trans-title>no</trans-title>\
         </trans-title-group></title-group><pub-date><year>2012</year></pub-date><pub-date><year>2011</year></pub-date>\
         <pub-date><year>19</year></pub-date><abstract><p>A</p></abstract><abstract abstract-type='toc'><p>no</p>\
         </abstract><trans-abstract><p>no</p></trans-abstract><abstract abstract-type='summary'><title>S</title>\
         <p>B</p></abstract><permissions><p>no</p></permissions>",
        "<p>C</p>",
    ));
    assert_eq!(row.title, "The T itle 1: sub");
    assert_eq!(row.text, "The T itle 1: sub\n\nA\n\nS\n\nB\n\nC");
    assert_eq!(row.id, "PMC12");
    assert_eq!(
        (row.pmid.as_deref(), row.doi.as_deref()),
        (Some("34"), Some("10/x"))
    );
    assert_eq!(
        (row.year, row.journal.as_deref(), row.source.as_str()),
        (Some(2011), Some("The J"), "jats")
    );
    assert_eq!(
        (row.languages, row.publication_types),
        (vec!["en".to_string()], vec!["review".to_string()])
    );
    assert_eq!(one(article("", "")).id, "f.xml:0");
    assert_eq!(
        one("<article/>"),
        Row {
            id: "f.xml:0".into(),
            source: "jats".into(),
            ..Row::default()
        }
    );
}

#[test]
fn blocks_and_inlines() {
    assert_eq!(
        body("<p>a <b>b</b>c<xref>[1]</xref>\n d</p>tail<p> </p><p>e</p>"),
        "a bc[1] d\n\ntail\n\ne"
    );
    assert_eq!(
        body(
            "<p>before<list><list-item><label>1</label><p>one</p></list-item><list-item><p>two</p></list-item></list>\
              after</p>"
        ),
        "before\n\none\n\ntwo\n\nafter"
    );
    assert_eq!(
        body(
            "<def-list><def-item><term>T</term><def><p>D</p></def></def-item></def-list><p>x<disp-formula><label>(1)\
              </label>E=m</disp-formula>y</p>"
        ),
        "T\n\nD\n\nxE=my"
    );
    assert_eq!(
        body(
            "<p>a<fig><caption><p>no</p></caption></fig><table-wrap><p>no</p></table-wrap>b<inline-graphic/>c</p>\
              <boxed-text><p>box</p></boxed-text><fn-group><p>no</p></fn-group><floats-group><p>no</p></floats-group>"
        ),
        "abc\n\nbox"
    );
    assert_eq!(body("<p>a<x> </x>b<break/>c</p>"), "ab c");
}

#[test]
fn sections() {
    let row = one(article(
        "<abstract><sec><title>Aim</title><p>x</p></sec></abstract>",
        "<p>intro</p><sec><label>1</label><title>Methods <xref/></title><p>m</p><sec><title>Inner</title><p>i</p>\
         <sec><title/></sec></sec><p>tail</p></sec><sec><p>no title</p></sec><sec><title>Only</title></sec><sec/>",
    ));
    let sections: Vec<(&str, &str)> = row
        .sections
        .iter()
        .map(|(t, s)| (t.as_str(), s.as_str()))
        .collect();
    assert_eq!(
        sections,
        [
            ("Aim", "Aim\n\nx"),
            ("Methods", "Methods\n\nm\n\nInner\n\ni\n\ntail"),
            ("Inner", "Inner\n\ni"),
            ("", "no title"),
            ("Only", "Only"),
        ]
    );
}

#[test]
fn alternatives_keep_one() {
    let choose = |children: &str| body(&format!("<p>a<alternatives>\n{children}\n</alternatives>b</p>"));
    let (math, tex) = (
        "<mml:math><mml:mi>m</mml:mi></mml:math>",
        "<tex-math>t</tex-math>",
    );
    assert_eq!(choose(&format!("{math}{tex}")), "atb");
    assert_eq!(choose(&format!("{tex}{math}")), "atb");
    assert_eq!(
        choose(&format!("{math}<textual-form>f</textual-form>{tex}")),
        "afb"
    );
    assert_eq!(choose(&format!("<graphic/>{math}{math}")), "amb");
    assert_eq!(choose("<graphic/><chem-struct>c</chem-struct>"), "ab");
    assert_eq!(
        choose("<chem-struct>c</chem-struct><chem-struct>d</chem-struct>"),
        "acb"
    );
    assert_eq!(choose(""), "ab");
    // A block that is taken back leaves no trace, nor a section inside.
    assert_eq!(choose(&format!("<preformat>p</preformat>{math}")), "amb");
    assert_eq!(choose("<preformat>p</preformat>"), "a\n\np\n\nb");
    let row = one(article(
        "",
        &format!(
            "<sec><title>T<alternatives><array><sec><title>no</title></sec></array>{math}\
                                        </alternatives></title></sec>"
        ),
    ));
    assert_eq!(row.sections, [("Tm".to_string(), "Tm".to_string())]);
    let nested = format!("<textual-form>x<alternatives>{math}{tex}</alternatives></textual-form>{tex}");
    assert_eq!(choose(&nested), "axtb");
}

#[test]
fn tex() {
    let document = "\\documentclass{x}\n\\begin{document} $a  &lt; b$\n\\end{document}\n";
    assert_eq!(
        body(&format!("<p>is <tex-math>{document}</tex-math>, so</p>")),
        "is $a < b$, so"
    );
    assert_eq!(
        body(&format!("<p>is<tex-math><![CDATA[{document}]]></tex-math></p>")),
        "is$a &lt; b$"
    );
    assert_eq!(
        body("<p><tex-math> x </tex-math>y<tex-math>\\begin{document}</tex-math></p>"),
        "x y\\begin{document}"
    );
}

#[test]
fn many_articles_and_other_wrappings() {
    let two = format!(
        "<pmc-articleset>{}<Reply>x</Reply>{}</pmc-articleset>",
        "<article><body><p>1</p><article><p>inner</p></article></body></article>", "<article/>"
    );
    let (rows, _) = read(&two).unwrap();
    assert_eq!(
        (rows.len(), rows[0].text.as_str(), rows[1].id.as_str()),
        (2, "1\n\ninner", "f.xml:1")
    );
    let oai = "<OAI-PMH xmlns=\"x\"><ListRecords><record><metadata><j:article xmlns:j='y'><j:body><j:p>p</j:p></j:body>\
               </j:article></metadata></record></ListRecords></OAI-PMH>";
    assert_eq!(one(oai).text, "p");
}

#[test]
fn an_article_that_is_damaged_is_one_bad_record() {
    let xml = "<pmc-articleset>\n<article><body><p>1</p></body></article>\n<article><body><p>2</body></article>\n\
               </pmc-articleset>";
    let (message, line) = format_error(read(xml));
    assert!(
        message.contains("</body> stands where <p> is open") && line == 3,
        "{message} {line}"
    );
    let mut options = XmlOptions::new();
    options.skip = true;
    let (rows, rejected) = read_with(xml, &options).unwrap();
    assert_eq!((rows.len(), rejected.len(), rejected[0].0), (1, 1, 3));
    for other in ["", "no XML", "<html/>", "<article>"] {
        let (rows, rejected) = read_with(other, &options).unwrap();
        assert_eq!((rows.len(), rejected.len()), (0, 1), "{other:?}");
        assert!(read_file(other.as_bytes(), &options).is_ok());
    }
    assert!(read_with("<PubmedArticleSet>", &options).is_err());
}
