//! Public keys in PEM (RFC 7468). Text around the blocks, CRLF and several blocks are fine; every
//! block must be a public key. A private key is always refused: it does not belong on a verifier.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::{Key, shortened};
use super::{KeyError, der};

/// All keys of a PEM text.
pub(super) fn keys(pem: &[u8]) -> Result<Vec<Key>, KeyError> {
    let blocks = blocks(pem)?;
    if let Some(private) = blocks
        .iter()
        .find(|block| block.label.ends_with("PRIVATE KEY"))
    {
        return Err(private.error(
            "a private key, which a verifier must never have; put its public half there: \
             `openssl pkey -in FILE -pubout`",
        ));
    }
    if blocks.is_empty() {
        return Err(KeyError(no_block(pem).to_owned()));
    }
    blocks.iter().map(Block::key).collect()
}

struct Block {
    /// Where its first line is, counted from 1.
    line: usize,
    label: String,
    der: Vec<u8>,
}

impl Block {
    fn key(&self) -> Result<Key, KeyError> {
        let key = match self.label.as_str() {
            "PUBLIC KEY" => der::spki(&self.der),
            "RSA PUBLIC KEY" => der::pkcs1(&self.der),
            label if label.ends_with("CERTIFICATE") => {
                return Err(self.error(
                    "a certificate, which is not followed; take the key out of it: \
                     `openssl x509 -in FILE -noout -pubkey`",
                ));
            }
            label => {
                return Err(self.error(&format!(
                    "{:?} is no public key; write one with `openssl pkey -in PRIVATE.pem -pubout`",
                    shortened(label)
                )));
            }
        };
        key.map_err(|why| self.error(&format!("this key cannot be used: {why}")))
    }

    fn error(&self, what: &str) -> KeyError {
        KeyError(format!("line {}: {what}", self.line))
    }
}

fn blocks(pem: &[u8]) -> Result<Vec<Block>, KeyError> {
    let mut blocks = Vec::new();
    let mut lines = (1..).zip(pem.split(|byte| *byte == b'\n'));
    while let Some((line, text)) = lines.next() {
        let Some(label) = label(text, b"-----BEGIN ") else {
            continue;
        };
        let mut block = Block {
            line,
            label,
            der: Vec::new(),
        };
        let mut body = Vec::new();
        let mut is_ended = false;
        for (_, text) in lines.by_ref() {
            if text.starts_with(b"-----") {
                is_ended = self::label(text, b"-----END ").as_ref() == Some(&block.label);
                break;
            }
            body.extend_from_slice(text.trim_ascii());
        }
        // What a private key looks like inside is no business of ours.
        if !block.label.ends_with("PRIVATE KEY") {
            if !is_ended {
                return Err(
                    block.error("the block that begins here never ends; is the file cut off?")
                );
            }
            block.der = STANDARD
                .decode(&body)
                .map_err(|_| block.error("the block that begins here is not base64"))?;
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn label(line: &[u8], begin: &[u8]) -> Option<String> {
    let label = line
        .trim_ascii()
        .strip_prefix(begin)?
        .strip_suffix(b"-----")?;
    Some(String::from_utf8_lossy(label).into_owned())
}

fn no_block(text: &[u8]) -> &'static str {
    let text = text.trim_ascii();
    if text.is_empty() {
        "it is empty; a line `-----BEGIN PUBLIC KEY-----` must begin the key"
    } else if text.starts_with(b"{") {
        "this is JSON, not PEM; give a JWK set as `jwks_file`"
    } else if text.starts_with(b"ssh-") || text.starts_with(b"ecdsa-") {
        "this is an SSH key; turn it into PEM: `ssh-keygen -e -m PKCS8 -f FILE`"
    } else if text.starts_with(b"\x30") {
        "this is DER, not PEM; turn it into PEM: `openssl pkey -pubin -inform DER -in FILE`"
    } else {
        "there is no line `-----BEGIN PUBLIC KEY-----` in it; write the key with \
         `openssl pkey -in PRIVATE.pem -pubout`"
    }
}
