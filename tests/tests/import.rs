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
