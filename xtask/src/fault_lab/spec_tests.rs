use super::*;

fn folder(file: &str, text: &str, scripts: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let one = root.path().join("one");
    fs::create_dir(&one).unwrap();
    fs::write(one.join(file), text).unwrap();
    for script in scripts {
        fs::write(one.join(script), "true\n").unwrap();
    }
    root
}

const APP: &str = r#"
about = "a server"
port = 80
[[container]]
name = "web"
command = ["nginx"]
[load]
command = ["client"]
rate = 10
[[variant]]
name = "low"
rate = 0.2
[[fault]]
name = "file.missing"
variants = ["usual", "low"]
parameters = { path = "/a", count = 3 }
"#;

const FAULT: &str = r#"
about = "a file is moved"
class = "file.missing"
bound = "i"
seconds = 20
parameters = ["path"]
[[setting]]
name = "move"
how = "mv"
[[setting]]
name = "remove"
held_out = true
how = "rm"
"#;

fn fails_with(read: Result<impl Sized>, parts: &[&str]) {
    let said = format!("{:#}", read.err().unwrap());
    for part in parts {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[test]
fn an_application_is_read_with_its_variants() {
    let root = folder(APP_FILE, APP, &[]);
    let apps = apps(root.path()).unwrap();
    let app = &apps["one"];
    assert_eq!((app.rate(USUAL), app.rate("low")), (Some(10.0), Some(0.2)));
    assert_eq!(app.rate("none"), None);
    assert_eq!(app.faults[0].parameters["count"].to_string(), "3");
}

#[test]
fn a_fault_is_read_with_its_settings() {
    let root = folder(FAULT_FILE, FAULT, &[INJECT]);
    let faults = faults(root.path()).unwrap();
    let fault = &faults["one"];
    assert!(!fault.settings[0].held_out && fault.settings[1].held_out);
    assert_eq!(fault.settings[1].parameters["how"].to_string(), "rm");
}

#[test]
fn what_is_wrong_is_said_with_file_and_line() {
    let unknown = APP.replace("port = 80", "port = 80\ncolour = \"red\"");
    fails_with(
        apps(folder(APP_FILE, &unknown, &[]).path()),
        &["one/app.toml:4", "colour"],
    );
    let text = APP.replace("rate = 10", "rate = \"ten\"");
    fails_with(
        apps(folder(APP_FILE, &text, &[]).path()),
        &["app.toml:9", "invalid type"],
    );
    let target = APP.replace(
        "name = \"file.missing\"",
        "name = \"file.missing\"\ntarget = \"db\"",
    );
    fails_with(
        apps(folder(APP_FILE, &target, &[]).path()),
        &["app.toml", "called db"],
    );
}

#[test]
fn a_fault_without_its_parts_is_refused() {
    fails_with(faults(folder(FAULT_FILE, FAULT, &[]).path()), &[INJECT]);
    let classless = FAULT.replace("class = \"file.missing\"", "");
    fails_with(
        faults(folder(FAULT_FILE, &classless, &[INJECT]).path()),
        &["fault.toml", "class is missing"],
    );
    fails_with(
        changes(folder(CHANGE_FILE, FAULT, &[INJECT]).path()),
        &["no class"],
    );
    fails_with(faults(tempfile::tempdir().unwrap().path()), &["no folder"]);
}

#[test]
fn parameters_that_scripts_ask_for_have_to_be_given() {
    let root = folder(FAULT_FILE, FAULT, &[INJECT]);
    let fault = &faults(root.path()).unwrap()["one"];
    let root = folder(APP_FILE, APP, &[]);
    let app = &apps(root.path()).unwrap()["one"];
    fault.check_applied(&app.faults[0]).unwrap();
    let mut bare = app.faults[0].clone();
    bare.parameters.clear();
    fails_with(fault.check_applied(&bare), &["parameter path"]);
}
