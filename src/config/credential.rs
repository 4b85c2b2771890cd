//! `[region.credential]`: the rungs that are named, or the implicit ones where none is.

use super::load::Environment;
use super::read::Reader;
use super::typed::state_home;
use super::value::{Given, Wrong};
use super::{Credential, StateAt};
use crate::secret::Secret;

/// The variable of the implicit rung.
const IMPLICIT: &str = "PRT_TOKEN";

const RUNGS: [&str; 7] = [
    "region.credential.refresh_token_file",
    "region.credential.refresh_token_env",
    "region.credential.login_file",
    "region.credential.core_conf",
    "region.credential.access_token_file",
    "region.credential.email",
    "region.credential.password_file",
];

pub(super) fn read(reader: &mut Reader<'_>, env: &Environment) -> Credential {
    let mut credential = Credential {
        refresh_token_file: reader
            .optional("region.credential.refresh_token_file", |given| given.path()),
        refresh_token_env: (reader.optional("region.credential.refresh_token_env", variable_name))
            .map(|name| (name, None)),
        login_file: reader.optional("region.credential.login_file", |given| given.path()),
        core_conf: reader.optional("region.credential.core_conf", |given| given.path()),
        core_conf_region: reader.optional("region.credential.core_conf_region", |given| {
            given.text().map(str::to_owned)
        }),
        access_token_file: reader
            .optional("region.credential.access_token_file", |given| given.path()),
        email: reader.optional("region.credential.email", email),
        password_file: reader.optional("region.credential.password_file", |given| given.path()),
        state: reader.optional("region.credential.state", state),
        implicit: !RUNGS.iter().any(|path| reader.is_given(path)),
        state_home: state_home(env.text("XDG_STATE_HOME"), env.text("HOME")),
        allow_identity_change: reader
            .required("region.credential.allow_identity_change", |given| {
                given.bool()
            }),
    };
    if credential.implicit {
        implicit(reader, &mut credential);
    }
    variable(reader, env, &mut credential);
    pairs(reader);
    credential
}

fn implicit(reader: &mut Reader<'_>, credential: &mut Credential) {
    let [_, variable, login, ..] = RUNGS;
    credential.refresh_token_env = Some((IMPLICIT.to_owned(), None));
    reader.derived(variable, format!("{IMPLICIT:?}"), "implicit");
    match &credential.state_home {
        Some(folder) => {
            let file = folder.join("login.json");
            reader.derived(
                login,
                format!("{:?}", file.display().to_string()),
                "implicit",
            );
            credential.login_file = Some(file);
        }
        None => reader.note(
            login,
            "implicit, but neither HOME nor XDG_STATE_HOME is set",
        ),
    }
}

/// The variable's value. Blanks around it come with files that were made with `echo`.
fn variable(reader: &mut Reader<'_>, env: &Environment, credential: &mut Credential) {
    let Some((name, value)) = &mut credential.refresh_token_env else {
        return;
    };
    let path = "region.credential.refresh_token_env";
    if env.is_set(name) && env.text(name).is_none() {
        let text = format!("the value of variable {name} is not UTF-8; a token is plain text");
        reader.conflict(path, &text);
        return;
    }
    let token = env.text(name).map(str::trim);
    *value = token
        .filter(|token| !token.is_empty())
        .map(|token| Secret::new(token.to_owned()));
    let is_set = match value {
        Some(_) => "set",
        None => "not set",
    };
    match credential.implicit {
        true => reader.note(path, format!("implicit, {is_set}")),
        false => reader.note(path, is_set),
    }
}

fn pairs(reader: &mut Reader<'_>) {
    let sound = reader.is_sound(&RUNGS);
    let pairs = [
        ("email", "password_file", r#""/PATH""#),
        ("password_file", "email", r#""alice@example.com""#),
        (
            "core_conf_region",
            "core_conf",
            r#""~/.practicus/core.conf""#,
        ),
    ];
    for (name, other, example) in pairs {
        let path = |name| format!("region.credential.{name}");
        if sound && reader.is_given(&path(name)) && !reader.is_given(&path(other)) {
            let text = format!("needs {other} too; write {other} = {example}, or remove {name}");
            reader.conflict(&path(name), &text);
        }
    }
}

fn variable_name(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match fits && !text.starts_with(|c: char| c.is_ascii_digit()) && text.len() <= 128 {
        true => Ok(text.to_owned()),
        false => Err(
            "is no variable's name (not shown, it may be a secret); write the name, such as \"PRT_TOKEN\""
                .to_owned(),
        ),
    }
}

fn email(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok(text.to_owned()),
        _ => Err(format!(
            "{} is no email address; write one such as \"alice@example.com\"",
            given.quoted(text)
        )),
    }
}

fn state(given: &Given<'_>) -> Result<StateAt, Wrong> {
    let text = given.text()?;
    if text == "memory" {
        return Ok(StateAt::Memory);
    }
    if text.starts_with("kubernetes:") {
        return Err(
            "\"kubernetes:\" is not in this version yet; write \"file:PATH\" or \"memory\""
                .to_owned(),
        );
    }
    match text.strip_prefix("file:") {
        Some(path) if !path.is_empty() => given.path_of(path).map(StateAt::File),
        _ => Err(format!(
            "{} is unknown; write \"file:PATH\" or \"memory\"",
            given.quoted(text)
        )),
    }
}
