// SPDX-License-Identifier: Apache-2.0
//! The disk's promises, without a mount.

use std::ffi::OsStr;

use super::content::File;
use super::image::{Image, ROOT};
use super::loss::Loss;

fn name(name: &str) -> (u64, &OsStr) {
    (ROOT, OsStr::new(name))
}

fn make(image: &mut Image, at: &str) -> u64 {
    let made = image.make(name(at), Some(File::default()), 0o644);
    made.expect("made")
}

fn sync(image: &mut Image, number: u64) {
    let until = image.n_requests;
    image.sync(number, until).expect("synced");
}

fn read(image: &Image, at: &str) -> Option<Vec<u8>> {
    let number = image.find(ROOT, OsStr::new(at)).ok()?;
    let file = image.nodes[&number].file.as_ref().expect("a file");
    Some(file.cached.read(0, 1 << 20))
}

fn lose(image: &mut Image, loss: Loss) {
    image.cut_after(0, loss);
    image.power_on();
}

#[test]
fn what_is_synced_stays_and_what_is_not_may_go() {
    for loss in Loss::EACH {
        for seed in 0..200 {
            let mut image = Image::new(seed);
            let number = make(&mut image, "a");
            image.write(number, 0, &[1; 5000]).expect("written");
            sync(&mut image, number);
            sync(&mut image, ROOT);
            image.write(number, 4000, &[2; 3000]).expect("written");
            image.set_len(number, 6000).expect("cut");
            lose(&mut image, loss);
            let found = read(&image, "a").expect("its name is durable");
            assert_eq!(found[..4000], [1; 4000], "{loss:?} {seed}");
            let rest = &found[4000..];
            assert!(
                rest.iter().all(|b| [0, 1, 2].contains(b)),
                "{loss:?} {seed}"
            );
            assert!(found.len() <= 7000, "{loss:?} {seed}");
            if loss == Loss::All {
                assert_eq!(found, [1; 5000]);
            }
        }
    }
}

#[test]
fn each_outcome_of_an_unsynced_write_happens() {
    for loss in [Loss::Behind, Loss::Any] {
        let (mut none, mut all, mut part) = (0, 0, 0);
        for seed in 0..300 {
            let mut image = Image::new(seed);
            let number = make(&mut image, "a");
            image.set_len(number, 8192).expect("extended");
            sync(&mut image, number);
            sync(&mut image, ROOT);
            image.write(number, 100, &[7; 6000]).expect("written");
            lose(&mut image, loss);
            let found = read(&image, "a").expect("its name is durable");
            match found.iter().filter(|b| **b == 7).count() {
                0 => none += 1,
                6000 => all += 1,
                _ => part += 1,
            }
        }
        assert!(none > 0 && part > 0, "{loss:?}: {none} {all} {part}");
        assert!(
            all > 0 || loss == Loss::Behind,
            "{loss:?}: {none} {all} {part}"
        );
    }
}

#[test]
fn a_synced_file_without_its_directory_has_no_name() {
    let mut image = Image::new(1);
    let number = make(&mut image, "a");
    image.write(number, 0, b"x").expect("written");
    sync(&mut image, number);
    lose(&mut image, Loss::All);
    assert_eq!(read(&image, "a"), None);
}

#[test]
fn a_rename_is_one_step_and_its_sync_brings_what_it_rests_on() {
    for seed in 0..100 {
        let mut image = Image::new(seed);
        let old = make(&mut image, "a");
        image.write(old, 0, b"old").expect("written");
        sync(&mut image, old);
        sync(&mut image, ROOT);
        let new = make(&mut image, "a.new");
        image.write(new, 0, b"new").expect("written");
        sync(&mut image, new);
        image.rename(name("a.new"), name("a")).expect("renamed");
        if seed % 2 == 0 {
            sync(&mut image, ROOT);
        }
        lose(&mut image, Loss::Any);
        let found = read(&image, "a").expect("one of them");
        assert!(found == b"new" || (found == b"old" && seed % 2 == 1));
        assert!(read(&image, "a.new").is_none() || found == b"old");
    }
}

#[test]
fn what_a_failed_sync_left_behind_only_a_new_write_saves() {
    let mut image = Image::new(1);
    let number = make(&mut image, "a");
    sync(&mut image, ROOT);
    image.write(number, 0, b"lost").expect("written");
    image.write(number, 4096, b"kept").expect("written");
    image.failing = Some("a".to_owned());
    let until = image.n_requests;
    assert!(image.sync(number, until).is_err());
    image.failing = None;
    assert_eq!(read(&image, "a").expect("there").len(), 4100);
    image.write(number, 4098, b"pt").expect("written");
    sync(&mut image, number);
    lose(&mut image, Loss::All);
    let found = read(&image, "a").expect("there");
    assert_eq!((&found[..4], &found[4096..]), (&[0; 4][..], &b"kept"[..]));
}

#[test]
fn the_power_goes_at_the_request_and_nothing_gets_through_then() {
    let mut image = Image::new(1);
    let number = make(&mut image, "a");
    sync(&mut image, ROOT);
    image.cut_after(2, Loss::All);
    image.write(number, 0, b"x").expect("written");
    assert!(image.write(number, 1, b"y").is_err());
    assert!(image.find(ROOT, OsStr::new("a")).is_err());
    let until = image.n_requests;
    assert!(image.sync(number, until).is_err());
    image.power_on();
    assert_eq!(read(&image, "a"), Some(Vec::new()));
}
