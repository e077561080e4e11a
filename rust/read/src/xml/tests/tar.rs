//! Archives of articles.

use super::*;

fn header(name: &str, size: u64, kind: u8) -> Vec<u8> {
    let mut header = vec![0u8; 512];
    header[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = kind;
    header[257..263].copy_from_slice(b"ustar\0");
    seal(header)
}

fn seal(mut header: Vec<u8>) -> Vec<u8> {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn member(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let padding = vec![0; data.len().wrapping_neg() % 512];
    [header(name, data.len() as u64, kind), data.to_vec(), padding].concat()
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn article(text: &str) -> Vec<u8> {
    format!("<article>\n<body><p>{text}</p></body></article>").into_bytes()
}

fn options() -> XmlOptions {
    let mut options = XmlOptions::new();
    (options.tar, options.id_prefix) = (true, "x.tar:".into());
    options
}

fn texts(rows: &[Row]) -> Vec<(&str, &str)> {
    rows.iter().map(|r| (r.id.as_str(), r.text.as_str())).collect()
}

#[test]
fn members_of_all_kinds() {
    let long = format!("{}/a.nxml", "d".repeat(150));
    let mut prefixed = header("p.xml", article("p").len() as u64, b'0');
    prefixed[345..348].copy_from_slice(b"pre");
    let prefixed = [seal(prefixed), article("p"), vec![0; 512 - article("p").len()]].concat();
    let mut binary = header("b.XML", 0, 0);
    binary[124] = 0x80;
    binary[125..136].fill(0);
    binary[135] = article("b").len() as u8;
    let binary = [seal(binary), article("b"), vec![0; 512 - article("b").len()]].concat();
    let size = format!("{}", article("s").len());
    let pax = format!("14 path=s.xml\n{} size={size}\n", size.len() + 9);
    let sized = [
        header("s", 0, b'0'),
        article("s"),
        vec![0; 512 - article("s").len()],
    ]
    .concat();
    let tar = archive(&[
        member("d/", b'5', b""),
        member("d/fig.jpg", b'0', &[0xff; 700]),
        member("d/1.nxml", b'0', &article("one")),
        member("link.xml", b'2', b""),
        member("././@LongLink", b'L', format!("{long}\0").as_bytes()),
        member("cut", b'0', &article("long")),
        member("g", b'g', b"30 comment=for all of them all\n"),
        member("x", b'x', pax.as_bytes()),
        sized,
        prefixed,
        binary,
    ]);
    let long_id = format!("x.tar/{long}:0");
    let want = [
        ("x.tar/d/1.nxml:0", "one"),
        (long_id.as_str(), "long"),
        ("x.tar/s.xml:0", "s"),
        ("x.tar/pre/p.xml:0", "p"),
        ("x.tar/b.XML:0", "b"),
    ];
    assert_eq!(texts(&read_file(&tar, &options()).unwrap().0), want);
    let mut zipped = options();
    zipped.compression = Compression::Gzip;
    assert_eq!(texts(&read_file(&gzip(&tar), &zipped).unwrap().0), want);
}

#[test]
fn a_bad_member_is_one_bad_record() {
    let tar = archive(&[
        member("a.xml", b'0', &article("a")),
        member("b.xml", b'0', &article("</q>")),
        member("c.xml", b'0', b""),
        member("d.xml", b'0', b"<html/>"),
        member("e.xml", b'0', &article("e")),
    ]);
    let (message, line) = format_error(read_file(&tar, &options()));
    assert!(
        message.starts_with("member b.xml: </q>") && line == 2,
        "{message} {line}"
    );
    let mut skip = options();
    skip.skip = true;
    let (rows, rejected) = read_file(&tar, &skip).unwrap();
    assert_eq!(texts(&rows), [("x.tar/a.xml:0", "a"), ("x.tar/e.xml:0", "e")]);
    let names: Vec<&str> = rejected.iter().map(|(_, reason)| &reason[..13]).collect();
    assert_eq!(names, ["member b.xml:", "member c.xml:", "member d.xml:"]);
}

#[test]
fn damaged_archives_are_always_errors() {
    let whole = archive(&[
        member("a.xml", b'0', &article("a")),
        member("b.xml", b'0', &article("b")),
    ]);
    let mut skip = options();
    skip.skip = true;
    for cut in [0, 1, 511, 512, 530, 600, 1024, 1500, 2047, 2048] {
        let message = format_error(read_file(&whole[..cut], &skip).map_err(|e| e.at(None, Some(0)))).0;
        assert!(message.contains("cut off"), "{cut}: {message}");
    }
    assert!(
        read_file(&whole[..2048 + 512], &skip).is_ok(),
        "one block of zeros is an end"
    );
    let mut flipped = whole.clone();
    flipped[0] ^= 1;
    for bad in [
        flipped,
        article("no tar").repeat(50),
        [whole.clone(), whole.clone()].concat(),
        archive(&[member("x", b'x', b"9 path")]),
        archive(&[member("x", b'x', b"99999999999999999999 a=b\n")]),
        archive(&[member("a.xml", b'S', &article("a"))]),
        archive(&[
            member("x", b'x', b"24 GNU.sparse.size=1234\n"),
            member("a.xml", b'0', &article("a")),
        ]),
        archive(&[
            member("a.xml", b'0', &article("a")),
            member("b.xml", b'0', b"<PubmedArticleSet/>"),
        ]),
    ] {
        let outcome = read_file(&bad, &skip);
        assert!(matches!(outcome, Err(Error::Format { .. })), "{outcome:?}");
    }
    let long = format!("{}.xml", "n".repeat(5000));
    let named = archive(&[
        member("l", b'L', long.as_bytes()),
        member("a.xml", b'0', &article("a")),
    ]);
    assert!(matches!(
        read_file(&named, &skip),
        Err(Error::Limit { limit: 4096, .. })
    ));
    let huge = [header("x", 1 << 30, b'x'), vec![0; 1024]].concat();
    assert!(matches!(read_file(&huge, &skip), Err(Error::Limit { .. })));
    assert!(read_file(&archive(&[]), &skip).unwrap().0.is_empty());
}

#[test]
fn versions_in_archives() {
    let record = |pmid: u32| {
        format!(
            "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>{pmid}</PMID></MedlineCitation></PubmedArticle>\
             </PubmedArticleSet>"
        )
    };
    let tar = archive(&[
        member("1.xml", b'0', record(1).as_bytes()),
        member("2.xml", b'0', record(2).as_bytes()),
        member("3.xml", b'0', record(1).as_bytes()),
    ]);
    let scratch = Scratch::new(&tar);
    let file = ScanFile {
        path: scratch.0.clone(),
        name: None,
        compression: Compression::None,
        tar: true,
    };
    let scan = ScanOptions {
        max_document_bytes: 1000,
        skip: false,
        threads: None,
    };
    let scanned = scan_pubmed(&[file], &scan, &Monitor::new()).unwrap().remove(0);
    assert_eq!(
        (scanned.records, scanned.left_out.clone(), scanned.replaced),
        (3, vec![1], 1)
    );
    let mut options = options();
    options.left_out = scanned.left_out;
    let rows = read_file(&tar, &options).unwrap().0;
    assert_eq!(rows.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["2", "1"]);
}
