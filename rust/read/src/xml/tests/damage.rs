//! Files that are not well-formed, and bombs.

use super::*;

fn refused(xml: impl AsRef<[u8]>) -> String {
    format_error(read(xml)).0
}

fn limited(xml: impl AsRef<[u8]>, options: &XmlOptions) -> u64 {
    match read_with(xml, options) {
        Err(Error::Limit { limit, line, .. }) => {
            assert!(line.is_some());
            limit
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn not_well_formed() {
    for (xml, what) in [
        ("", "no XML element"),
        ("  \n", "no XML element"),
        ("text", "outside of the root"),
        ("<article>", "cut off"),
        ("<article", "inside"),
        ("<article a='", "inside"),
        ("<article></article", "inside"),
        ("<article/><article/>", "second root"),
        ("<article/>x", "outside of the root"),
        ("<article/>&lt;", "outside of the root"),
        ("<article/><![CDATA[x]]>", "begins nothing"),
        ("</article>", "no element is open"),
        ("<article></Article>", "stands where"),
        ("<article><a></article>", "stands where"),
        ("<article><a/ ></article>", "inside a tag"),
        ("<article><1/></article>", "begins no tag"),
        ("<article>< a/></article>", "begins no tag"),
        ("<article a=1/>", "quoted"),
        ("<article a/>", "quoted"),
        ("<article a='1'b='2'/>", "no space"),
        ("<article a='1' a='2'/>", "twice"),
        ("<article a='<'/>", "inside an attribute"),
        ("<article a='&'/>", "begins no reference"),
        ("<article a='&nosuch;'/>", "&nosuch;"),
        ("<article>&nosuch;</article>", "&nosuch;"),
        ("<article>&</article>", "begins no reference"),
        ("<article>& </article>", "begins no reference"),
        ("<article>&#0;</article>", "no character"),
        ("<article>]]></article>", "]]>"),
        ("<article><!-- -- --></article>", "-- inside"),
        ("<article><!-- </article>", "inside a comment"),
        ("<article><![CDATA[ </article>", "inside a CDATA"),
        ("<article><?p </article>", "inside a processing"),
        ("<article><!ELEMENT a></article>", "begins nothing"),
        ("<article><!DOCTYPE a></article>", "where none may"),
        ("<!DOCTYPE a><!DOCTYPE a><article/>", "where none may"),
        ("<!DOCTYPE a [<article/>", "DOCTYPE"),
        (" <?xml version='1.0'?><article/>", "start of the file"),
        ("<article><?xml version='1.0'?></article>", "start of the file"),
        ("<?XML version='1.0'?><article/>", "start of the file"),
        ("<?xml?><article/>", "begins no processing|declaration"),
        ("<?xml version='2.0'?><article/>", "version"),
        ("<?xml encoding='utf-8'?><article/>", "declaration"),
        ("<?xml version='1.0' encoding='latin1'?><article/>", "\"latin1\""),
        ("<html></html>", "<html>"),
        ("<article>\u{1}</article>", "may not stand"),
        ("<article>\u{ffff}</article>", "may not stand"),
    ] {
        let message = refused(xml);
        assert!(what.split('|').any(|w| message.contains(w)), "{xml:?}: {message}");
    }
    for well_formed in [
        "\u{feff}<?xml version = \"1.0\" encoding='US-ASCII' standalone='no' ?><!-- - --><?p?><article a = 'x>\"' b=\"'\" />\n<!---->",
        "<article>] ]] ]]&gt; <a:b xmlns:a='x' a:c='1' c='1'></a:b\n></article> <?q ??> ",
    ] {
        assert!(read(well_formed).is_ok(), "{well_formed:?}");
    }
}

#[test]
fn encodings() {
    let bytes: [(&[u8], &str); 6] = [
        (b"\xff\xfe<\0a\0", "UTF-16"),
        (b"\xfe\xff\0<", "UTF-16"),
        (b"<\0a\0", "UTF-16"),
        (b"\0\0\0<", "UTF-32"),
        (b"<article>\xe9</article>", "not valid UTF-8"),
        (b"<article>\xc3", "not valid UTF-8"),
    ];
    for (xml, what) in bytes {
        let message = refused(xml);
        assert!(message.contains(what), "{message}");
    }
    let message = refused("<?xml version='1.0' encoding='US-ASCII'?><article>\u{e9}</article>");
    assert!(message.contains("US-ASCII"));
    assert_eq!(
        one("<?xml version='1.0' encoding='us-ascii'?><article/>").source,
        "jats"
    );
}

#[test]
fn entities_are_never_expanded() {
    let laughs = "<!DOCTYPE article [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>\
                  <!ENTITY c SYSTEM 'file:///etc/passwd'><!ENTITY alpha 'x'>]>";
    for name in ["b", "c", "alpha"] {
        let message = refused(format!("{laughs}<article><body><p>&{name};</p></body></article>"));
        assert!(
            message.contains(&format!("&{name};")) && message.contains("declared"),
            "{message}"
        );
    }
    let fine = format!("{laughs}<article><body><p>&lt;&beta;</p></body></article>");
    assert_eq!(one(fine).text, "<\u{3b2}");
}

#[test]
fn limits_hold() {
    let options = XmlOptions::new();
    let deep = |n: usize| format!("{}{}", "<article>".repeat(n), "</article>".repeat(n));
    assert_eq!(limited(deep(513), &options), 512);
    assert!(read(deep(512)).is_ok());
    assert_eq!(
        limited(format!("<article {}/>", "x".repeat(2000)), &options),
        1000
    );
    let many: String = (0..1001).map(|i| format!(" a{i}=''")).collect();
    assert_eq!(limited(format!("<article{many}/>"), &options), 1000);
    let long = format!("<article a='{}'/>", "x".repeat(5 << 20));
    assert_eq!(limited(long, &options), 4 << 20);
    let subset = format!("<!DOCTYPE a [<!--{}-->]><article/>", "x".repeat(2 << 20));
    assert_eq!(limited(subset, &options), 1 << 20);

    for (inside, limit) in [
        ("<p>a</p>", 1_000_000),
        ("<sec><p>a</p></sec>", 100_000),
        ("<sec/>", 100_000),
    ] {
        let body = inside.repeat(limit as usize + 1);
        assert_eq!(
            limited(format!("<article><body>{body}</body></article>"), &options),
            limit
        );
    }

    let mut zipped = XmlOptions::new();
    zipped.compression = Compression::Gzip;
    let references = gzip(format!("<article>{}", "&lt;".repeat((1 << 24) + 1)).as_bytes());
    assert!(matches!(
        read_file(&references, &zipped),
        Err(Error::Limit {
            limit: 16_777_216,
            ..
        })
    ));

    let mut small = XmlOptions::new();
    small.max_document_bytes = 1000;
    for inside in [
        "x".repeat(2000),
        "<a/>".repeat(500),
        format!("<!--{}", "x".repeat(2000)),
        "&lt;".repeat(500),
    ] {
        assert_eq!(limited(format!("<article>{inside}</article>"), &small), 1000);
    }
    assert_eq!(limited(" ".repeat(2000), &small), 1000);
    // The limit is a record's: a file may be longer.
    let record = format!("<article>{}</article>", "x".repeat(900));
    let file = format!("<pmc-articleset>{}</pmc-articleset>", record.repeat(5));
    assert_eq!(read_with(&file, &small).unwrap().0.len(), 5);
    small.skip = true;
    assert_eq!(read_with(format!("<article>{file}"), &small).unwrap().1.len(), 1);
    small.max_document_bytes = 0;
    assert!(read_file(b"<article/>", &small).is_err());
}

#[test]
fn torn_and_damaged_compression_is_always_an_error() {
    let xml = format!(
        "<article><body><p>{}</p></body></article>",
        "word ".repeat(10_000)
    );
    let coded = gzip(xml.as_bytes());
    let mut options = XmlOptions::new();
    options.compression = Compression::Gzip;
    assert_eq!(read_file(&coded, &options).unwrap().0.len(), 1);
    options.skip = true;
    for cut in [5, 30, coded.len() - 1] {
        assert!(
            matches!(read_file(&coded[..cut], &options), Err(Error::Format { .. })),
            "{cut}"
        );
    }
}

#[test]
fn every_cut_and_flip_ends_in_a_result() {
    let xml = "<?xml version=\"1.0\"?><!DOCTYPE PubmedArticleSet [<!ENTITY a 'b'>]><PubmedArticleSet><PubmedArticle>\
               <MedlineCitation><PMID>1</PMID><Article><ArticleTitle a='&lt;'>x&#65;<![CDATA[y]]></ArticleTitle>\
               </Article></MedlineCitation></PubmedArticle></PubmedArticleSet>";
    let options = XmlOptions::new();
    for cut in 0..xml.len() {
        assert!(
            with_pieces(&xml.as_bytes()[..cut], 1 << 20, &options).is_err(),
            "{cut}"
        );
    }
    for at in 0..xml.len() {
        for bit in 0..8 {
            let mut bad = xml.as_bytes().to_vec();
            bad[at] ^= 1 << bit;
            let whole = with_pieces(&bad, 1 << 20, &options);
            let pieces = with_pieces(&bad, 3, &options);
            assert_eq!(shown(&pieces), shown(&whole), "{at} {bit}");
            assert!(!matches!(whole, Err(Error::Internal(_))));
        }
    }
}
