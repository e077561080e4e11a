//! What PubMed files have done to other parsers.

use super::*;

fn set(records: &str) -> String {
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<PubmedArticleSet>{records}</PubmedArticleSet>\n")
}

fn article(pmid: u64, content: &str) -> String {
    format!(
        "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article>{content}</Article>\
         </MedlineCitation></PubmedArticle>"
    )
}

#[test]
fn a_hard_record() {
    let row = one(set(
        r#"<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">1</PMID><Article
        PubModel="Print"><Journal><JournalIssue><PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate>
        </JournalIssue><Title>J &amp; X</Title></Journal><ArticleTitle>Role of <i>BRCA1</i> in
        D<sub>3</sub> &lt; 5 &#x3bc;g</ArticleTitle><ELocationID EIdType="pii">x</ELocationID>
        <ELocationID EIdType="doi" ValidYN="N">10.1/bad</ELocationID><ELocationID EIdType="doi">10.1/good</ELocationID>
        <Abstract><AbstractText Label="AIM" NlmCategory="OBJECTIVE">Vitamin D<sub>3</sub> at p&lt;0.05
        (<i>n</i>=30).</AbstractText><AbstractText Label=" ">AT&amp;T <b>bold</b> end.</AbstractText>
        <AbstractText Label="EMPTY">  </AbstractText><AbstractText Label="A &lt; B">x<mml:math
        xmlns:mml="m"><mml:mi>y</mml:mi><mml:annotation>\tex</mml:annotation></mml:math></AbstractText>
        <CopyrightInformation>(c)</CopyrightInformation></Abstract>
        <Language>eng</Language><Language>kor</Language><PublicationTypeList><PublicationType UI="D016428">Journal
        Article</PublicationType><PublicationType>Review</PublicationType></PublicationTypeList>
        <ArticleDate><Year>2001</Year></ArticleDate></Article>
        <OtherAbstract><AbstractText>other</AbstractText></OtherAbstract>
        <CommentsCorrectionsList><CommentsCorrections><PMID>77</PMID></CommentsCorrections></CommentsCorrectionsList>
        </MedlineCitation><PubmedData><ArticleIdList><ArticleId IdType="pubmed">1</ArticleId>
        <ArticleId IdType="pmc">PMC123</ArticleId></ArticleIdList><ReferenceList><Reference><ArticleIdList>
        <ArticleId IdType="pubmed">88</ArticleId><ArticleId IdType="doi">10.1/other</ArticleId></ArticleIdList>
        </Reference></ReferenceList></PubmedData></PubmedArticle>"#,
    ));
    let want = Row {
        id: "1".into(),
        text:
            "Role of BRCA1 in D3 < 5 \u{3bc}g\n\nAIM: Vitamin D3 at p<0.05 (n=30).\nAT&T bold end.\nA < B: xy"
                .into(),
        source: "pubmed".into(),
        title: "Role of BRCA1 in D3 < 5 \u{3bc}g".into(),
        year: Some(1998),
        languages: vec!["eng".into(), "kor".into()],
        publication_types: vec!["Journal Article".into(), "Review".into()],
        journal: Some("J & X".into()),
        pmid: Some("1".into()),
        pmc: Some("PMC123".into()),
        doi: Some("10.1/good".into()),
        sections: vec![
            ("AIM".into(), "AIM: Vitamin D3 at p<0.05 (n=30).".into()),
            (String::new(), "AT&T bold end.".into()),
            ("A < B".into(), "A < B: xy".into()),
        ],
    };
    assert_eq!(row, want);
}

#[test]
fn years() {
    let issue = |date: &str| {
        let date = format!("<PubDate>{date}</PubDate>");
        one(set(&article(
            1,
            &format!("<Journal><JournalIssue>{date}</JournalIssue></Journal>"),
        )))
        .year
    };
    assert_eq!(issue("<Year>1999</Year><Month>Jan</Month>"), Some(1999));
    assert_eq!(issue("<Year> 19x9 </Year>"), None);
    assert_eq!(
        issue("<MedlineDate>Spring 12345 2003-2004</MedlineDate>"),
        Some(2003)
    );
    assert_eq!(issue("<MedlineDate>no year</MedlineDate>"), None);
    let late = article(
        1,
        "<ArticleDate><Year>2010</Year></ArticleDate><Journal><JournalIssue/></Journal>",
    );
    assert_eq!(one(set(&late)).year, Some(2010));
}

#[test]
fn books() {
    let row = one(set(
        "<PubmedBookArticle><BookDocument><PMID>5</PMID><ArticleIdList><ArticleId IdType=\"doi\">10/d</ArticleId>\
         <ArticleId IdType=\"pmc\">7</ArticleId></ArticleIdList><Book><BookTitle>A <i>Book</i></BookTitle><PubDate>\
         <Year>2020</Year></PubDate></Book><Language>eng</Language><Abstract><AbstractText>x</AbstractText></Abstract>\
         <PublicationType>Review</PublicationType></BookDocument><PubmedBookData><ArticleIdList>\
         <ArticleId IdType=\"doi\">10/b</ArticleId></ArticleIdList></PubmedBookData></PubmedBookArticle>",
    ));
    assert_eq!((row.id.as_str(), row.text.as_str()), ("5", "A Book\n\nx"));
    assert_eq!((row.year, row.journal.as_deref()), (Some(2020), Some("A Book")));
    assert_eq!(
        (row.doi.as_deref(), row.pmc.as_deref()),
        (Some("10/b"), Some("PMC7"))
    );
    assert_eq!(row.publication_types, ["Review"]);
    let titled = one(
        "<PubmedBookArticleSet><PubmedBookArticle><BookDocument><PMID>5</PMID><Book><BookTitle>B\
                      </BookTitle></Book><ArticleTitle>Chapter</ArticleTitle></BookDocument></PubmedBookArticle>\
                      </PubmedBookArticleSet>",
    );
    assert_eq!(
        (titled.title.as_str(), titled.journal.as_deref()),
        ("Chapter", Some("B"))
    );
}

#[test]
fn text_in_all_its_dresses() {
    let row = one(set(&article(
        1,
        "<ArticleTitle>a<!-- no <i> -->b <?p x?>c <![CDATA[ <&amp;> ]]]>d&nbsp;&alpha;&#9;&#10;e ] ]] > \
         <i a='>' b=\"&lt;'/>\"/>f</ArticleTitle>",
    )));
    assert_eq!(row.title, "ab c <&amp;> ]d\u{a0}\u{3b1} e ] ]] > f");
}

#[test]
fn a_bad_record_is_an_error_or_set_aside() {
    let xml = set(&format!(
        "\n{}\n<PubmedArticle><MedlineCitation><PMID>x1</PMID></MedlineCitation></PubmedArticle>\n\
         <PubmedArticle><PubmedData/></PubmedArticle>{}",
        article(1, ""),
        article(2, "<ELocationID EIdType='doi'>10/x</ELocationID>")
    ));
    let (message, line) = format_error(read(&xml));
    assert!(message.contains("no PMID") && line == 4, "{message} {line}");
    let mut options = XmlOptions::new();
    options.skip = true;
    let (rows, rejected) = read_with(&xml, &options).unwrap();
    assert_eq!(rows.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(rejected.iter().map(|r| r.0).collect::<Vec<_>>(), [4, 5]);
    let options = options.with_id(Some("doi")).unwrap();
    let (rows, rejected) = read_with(&xml, &options).unwrap();
    assert_eq!((rows.len(), rows[0].id.as_str(), rejected.len()), (1, "10/x", 3));
    assert!(rejected[0].1.contains("no doi"));
}

#[test]
fn parts_and_sources() {
    let content = "<Journal><Title>J</Title></Journal><ArticleTitle>T</ArticleTitle><Abstract><AbstractText Label='L'>A\
                   </AbstractText></Abstract>";
    let xml = set(&format!("{}{}", article(1, content), article(2, "")));
    let read = |text: &[&str], source| {
        let options = XmlOptions::new()
            .with_text(text)
            .unwrap()
            .with_source(source)
            .unwrap();
        read_with(&xml, &options).unwrap().0
    };
    let rows = read(&["abstract", "title"], Some("journal"));
    assert_eq!(
        (rows[0].text.as_str(), rows[0].source.as_str()),
        ("L: A\n\nT", "J")
    );
    assert_eq!(rows[0].sections, [("L".to_string(), "L: A".to_string())]);
    assert_eq!((rows[1].text.as_str(), rows[1].source.as_str()), ("", "pubmed"));
    assert!(read(&["title"], None)[0].sections.is_empty());
    for wrong in [&["x"][..], &[], &["title", "title"], &["text", "title"]] {
        assert!(matches!(
            XmlOptions::new().with_text(wrong),
            Err(Error::Input { .. })
        ));
    }
    assert!(
        XmlOptions::new().with_id(Some("text")).is_err() && XmlOptions::new().with_source(Some("x")).is_err()
    );
}

#[test]
fn rows_left_out() {
    let records: String = (1..=20)
        .map(|i| article(i, "<ArticleTitle>t</ArticleTitle>"))
        .collect();
    let mut options = XmlOptions::new();
    options.left_out = vec![0b1000_0001, 0b10];
    let rows = read_with(set(&records), &options).unwrap().0;
    let ids: Vec<u32> = rows.iter().map(|r| r.id.parse().unwrap()).collect();
    assert_eq!(ids, [2, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
}

#[test]
fn a_single_article_is_a_document() {
    assert_eq!(one(article(3, "")).id, "3");
}

fn scan(files: &[(&str, &str)]) -> Result<Vec<Scanned>> {
    let scratch: Vec<Scratch> = files
        .iter()
        .map(|(_, xml)| Scratch::new(xml.as_bytes()))
        .collect();
    let files: Vec<ScanFile> = files
        .iter()
        .zip(&scratch)
        .map(|((name, _), scratch)| ScanFile {
            path: scratch.0.clone(),
            name: Some(PathBuf::from(name)),
            compression: Compression::None,
            tar: false,
        })
        .collect();
    let options = ScanOptions {
        max_document_bytes: 10_000,
        skip: false,
        threads: Some(2),
    };
    scan_pubmed(&files, &options, &Monitor::new())
}

#[test]
fn versions_by_name_of_file_and_deletions() {
    let hard = "<PubmedArticle><MedlineCitation><x><PMID>9</PMID></x><CommentsCorrectionsList><PMID>1</PMID>\
                </CommentsCorrectionsList><PMID>4</PMID></MedlineCitation><!-- </PubmedArticle> --><y>\
                <![CDATA[</PubmedArticle>]]><?p </PubmedArticle>?><PubmedArticle a='/>'/><PubmedArticle ></PubmedArticle >\
                <PubmedArticleX></PubmedArticleX></y></PubmedArticle\n>";
    let first = set(&format!(
        "{}{}{hard}{}",
        article(1, ""),
        article(2, ""),
        article(3, "")
    ));
    let second = set(&format!(
        "{}<DeleteCitation><PMID Version='1'>2</PMID><PMID>4</PMID></DeleteCitation>{}",
        article(1, ""),
        article(4, "")
    ));
    let jats = "<article><front/></article>";
    let got = scan(&[
        ("b/n2.xml", &second),
        ("z/n1.xml", &first),
        ("n0.xml", jats),
        ("n3.xml", "no XML"),
    ])
    .unwrap();
    let plain: Vec<_> = got
        .iter()
        .map(|s| (s.records, s.left_out.clone(), s.replaced, s.deleted))
        .collect();
    let want = [
        (2, vec![0], 0, 0),
        (4, vec![0b0111], 1, 2),
        (0, vec![], 0, 0),
        (0, vec![], 0, 0),
    ];
    assert_eq!(plain, want);
    // The reader counts the same rows.
    let mut options = XmlOptions::new();
    options.left_out = vec![0b0111];
    assert_eq!(read_with(&first, &options).unwrap().0[0].id, "3");
}

#[test]
fn scans_of_damaged_files() {
    for (xml, what) in [
        (set("<DeleteCitation><PMID>x</PMID></DeleteCitation>"), "no PMID"),
        (set(&article(1, ""))[..150].to_string(), "cut off"),
        (set("<x>"), "stands where"),
    ] {
        match scan(&[("f", &xml)]) {
            Err(Error::Format { message, path, .. }) => {
                assert!(message.contains(what), "{message}");
                assert_eq!(path.unwrap(), Path::new("f"));
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    assert!(matches!(
        scan_pubmed(
            &[ScanFile {
                path: "/nonexistent".into(),
                name: None,
                compression: Compression::None,
                tar: false
            }],
            &ScanOptions {
                max_document_bytes: 1,
                skip: false,
                threads: None
            },
            &Monitor::new()
        ),
        Err(Error::File { .. })
    ));
    assert!(scan(&[]).unwrap().is_empty());
}
