// SPDX-License-Identifier: Apache-2.0
//! An import that is interrupted, or that cannot take everything, is never taken for a whole one.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use dulse_tests::{free_port, program};

/// A record of a file of `fs.meta.save`: a directory, and an entry of which only the name and the
/// mode of a file are there.
fn record(directory: &str, name: &str) -> Vec<u8> {
    let mut entry = vec![0x0a, name.len() as u8];
    entry.extend(name.as_bytes());
    entry.extend([0x22, 3, 0x18, 0xa4, 3]);
    let mut bytes = vec![0x0a, directory.len() as u8];
    bytes.extend(directory.as_bytes());
    bytes.extend([0x12, entry.len() as u8]);
    bytes.extend(entry);
    let mut record = (bytes.len() as u32).to_be_bytes().to_vec();
    record.extend(bytes);
    record
}

fn import(from: &Path, dir: &Path, more: &[&str]) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.args(["import", "--format=json", "--engine=redb", "--from"]);
    command.arg(format!("meta:{}", from.display()));
    command.arg("--dir").arg(dir).args(more);
    Ok(command)
}

fn report(output: &Output) -> Result<serde_json::Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).map_err(|e| anyhow::anyhow!("{e}: {said}"))
}

/// What a filer says that is started on the store; it must refuse.
fn filer_says(dir: &Path) -> Result<String> {
    let output = Command::new(program()?)
        .args(["filer", "--master=127.0.0.1:1", "--engine=redb"])
        .arg(format!("--port={}", free_port()?))
        .arg("--dir")
        .arg(dir)
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{text}");
    Ok(text)
}

#[test]
fn what_cannot_be_taken_is_told_and_holds_the_import_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (file, ours) = (dir.path().join("f.meta"), dir.path().join("ours"));
    let records = [("/", "a"), ("/", ".."), ("/a b", "ü")];
    let bytes: Vec<u8> = records.iter().flat_map(|(d, n)| record(d, n)).collect();
    std::fs::write(&file, bytes)?;
    let output = import(&file, &ours, &[])?.output()?;
    let said = report(&output)?;
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(
        said["done"] == false && said["entries"] == 2 && said["equal"] == 2,
        "{said}"
    );
    ensure!(said["refused"]["count"] == 1, "{said}");
    ensure!(
        said["refused"]["first"][0]
            .as_str()
            .is_some_and(|s| s.starts_with("/..:")),
        "{said}"
    );
    let text = filer_says(&ours)?;
    ensure!(text.contains("was not finished; run it again"), "{text}");
    let again = import(&file, &ours, &["--skip-refused"])?.output()?;
    let said = report(&again)?;
    ensure!(again.status.success() && said["done"] == true, "{said}");
    ensure!(said["there_already"] == 2, "nothing is made twice: {said}");
    let third = import(&file, &ours, &[])?.output()?;
    let text = String::from_utf8_lossy(&third.stderr).into_owned();
    ensure!(
        third.status.code() == Some(2) && text.contains("holds a store already"),
        "{text}"
    );
    Ok(())
}

#[test]
fn killed_in_the_middle_it_goes_on() -> Result<()> {
    // For some seconds: progress is told every second one.
    const N: usize = 400_000;
    let dir = tempfile::tempdir()?;
    let (file, ours) = (dir.path().join("f.meta"), dir.path().join("ours"));
    let bytes: Vec<u8> = (0..N).flat_map(|n| record("/d", &n.to_string())).collect();
    std::fs::write(&file, bytes)?;
    let mut command = import(&file, &ours, &[])?;
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(child.stderr.take().context("its errors")?);
    let mut n_told = 0;
    for line in said.lines() {
        let line = line?;
        let count = line
            .strip_prefix("imported ")
            .and_then(|rest| rest.split(' ').next());
        if let Some(count) = count {
            n_told = count.parse::<usize>()?;
            break;
        }
    }
    ensure!(0 < n_told && n_told < N, "it tells how far it is: {n_told}");
    child.kill()?;
    child.wait()?;
    let text = filer_says(&ours)?;
    ensure!(text.contains("was not finished; run it again"), "{text}");
    ensure!(
        text.contains(&format!("dulse import --from meta:{}", file.display())),
        "{text}"
    );
    let output = import(&file, &ours, &[])?.output()?;
    let said = report(&output)?;
    ensure!(output.status.success() && said["done"] == true, "{said}");
    ensure!(said["entries"] == N && said["equal"] == N, "{said}");
    let n_there = said["there_already"]
        .as_u64()
        .context("how many were there")? as usize;
    ensure!(0 < n_there && n_there < N, "it goes on: {said}");
    Ok(())
}

#[test]
fn what_cannot_be_read_leaves_nothing_behind() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (file, ours) = (dir.path().join("f.meta"), dir.path().join("ours"));
    let output = import(&file, &ours, &[])?.output()?;
    ensure!(output.status.code() == Some(2) && !ours.exists());
    // A file that was cut off is told, and is not taken for a whole one.
    let whole = [record("/", "a"), record("/", "b")].concat();
    std::fs::write(&file, &whole[..whole.len() - 1])?;
    let output = import(&file, &ours, &[])?.output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(3), "{text}");
    ensure!(text.contains("cut off within a record"), "{text}");
    ensure!(filer_says(&ours)?.contains("was not finished"));
    Ok(())
}

/// Makes a store as upstream's filer on SQLite has it, or changes it: rows of `SQLITE_ROWS`.
const SQLITE: &str = r#"
import hashlib, json, sqlite3, sys

def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])

db = sqlite3.connect(sys.argv[1])
db.execute("CREATE TABLE IF NOT EXISTS filemeta (dirhash BIGINT, name TEXT, directory TEXT, "
           "meta BLOB, PRIMARY KEY (dirhash, name))")
db.execute("DELETE FROM filemeta")
for directory, name, is_dir in json.loads(sys.argv[2]):
    digest = hashlib.md5(directory.encode()).digest()[:8]
    mode = varint(0o755 | 1 << 31 if is_dir else 0o644)
    value = (b"\x10\x01" if is_dir else b"") + b"\x22" + bytes([1 + len(mode)]) + b"\x18" + mode
    row = (int.from_bytes(digest, "big", signed=True), bytes.fromhex(name), directory, value)
    db.execute("INSERT INTO filemeta VALUES (?, CAST(? AS TEXT), ?, ?)", row)
db.commit()
"#;

/// - `rows`: directory, name, and whether it is a directory.
fn sqlite(file: &Path, rows: &[(&str, &[u8], bool)]) -> Result<()> {
    let hex = |name: &[u8]| name.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let rows = rows
        .iter()
        .map(|(dir, name, is_dir)| (dir, hex(name), is_dir));
    let rows = serde_json::to_string(&rows.collect::<Vec<_>>())?;
    let mut python = Command::new("python3");
    let output = python.args(["-c", SQLITE]).arg(file).arg(rows).output();
    let output = output.context("no `python3`")?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn what_lay_below_a_directory_before_its_row_was_read_lets_that_in() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = dir.path().join("ours");
    // Where the copy of a source of another kind would go: it is not touched.
    let place = dir.path().join("ours.source");
    std::fs::create_dir(&place)?;
    let file = place.join("filer.db");
    let run = || -> Result<(Output, serde_json::Value)> {
        let output = Command::new(program()?)
            .args(["import", "--format=json", "--engine=redb", "--from"])
            .arg(format!("sqlite:{}", file.display()))
            .arg("--dir")
            .arg(&ours)
            .output()?;
        let said = report(&output)?;
        Ok((output, said))
    };
    let orphan: (&str, &[u8], bool) = ("/gone/a", b"f", false);
    sqlite(&file, &[orphan, ("/", b"caf\xe9", false)])?;
    let (output, said) = run()?;
    ensure!(output.status.code() == Some(1), "{said}");
    ensure!(
        said["refused"]["first"][0] == r"/caf\xe9: has a name that is no UTF-8",
        "{said}"
    );
    ensure!(said["entries"] == 1 && said["equal"] == 1, "{said}");
    sqlite(&file, &[orphan, ("/gone", b"a", true)])?;
    let (output, said) = run()?;
    ensure!(output.status.success() && said["done"] == true, "{said}");
    ensure!(said["entries"] == 2 && said["equal"] == 2, "{said}");
    ensure!(file.is_file(), "the source stays");
    Ok(())
}
