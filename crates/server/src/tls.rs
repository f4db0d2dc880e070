//! What TLS connections are made with: certificates, keys, versions and ciphers, as the configuration names them.
//!
//! All of it is read and checked at once, when the server starts or CONFIG SET changes any of it, and then replaced as a
//! whole: a connection keeps what it was made with. What passes over a connection is [`crate::worker`]'s.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use config::{Config, TlsAuthClients};
use pkcs8::EncryptedPrivateKeyInfo;
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};
use rustls::{
    CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use crate::{clock, log};

/// Directives a change of which replaces what is in force.
pub const DIRECTIVES: &[&str] = &[
    "tls-port",
    "tls-auth-clients",
    "tls-cert-file",
    "tls-key-file",
    "tls-key-file-pass",
    "tls-ca-cert-file",
    "tls-ca-cert-dir",
    "tls-protocols",
    "tls-ciphers",
    "tls-ciphersuites",
    "tls-prefer-server-ciphers",
    "tls-session-caching",
    "tls-session-cache-size",
    "tls-session-cache-timeout",
];

/// Sessions that are kept at most.
const SESSIONS_MAX: usize = 1 << 17;
/// Sessions offered to each client of TLS 1.3, which uses every one only once.
const TICKETS: usize = 2;

/// What new connections get.
#[derive(Default)]
pub struct InForce(RwLock<Option<Arc<ServerConfig>>>);

impl InForce {
    pub fn get(&self) -> Option<Arc<ServerConfig>> {
        self.0
            .read()
            .expect("no holder of this lock panics")
            .clone()
    }

    pub fn replace(&self, with: Arc<ServerConfig>) {
        *self.0.write().expect("no holder of this lock panics") = Some(with);
    }
}

/// Makes what `config` asks for, or says what is wrong with it.
pub fn make(config: &Config) -> Result<Arc<ServerConfig>, String> {
    let cert_file = config
        .tls_cert_file
        .as_deref()
        .ok_or("No tls-cert-file configured!")?;
    let key_file = config
        .tls_key_file
        .as_deref()
        .ok_or("No tls-key-file configured!")?;
    let provider = Arc::new(provider(config)?);
    let versions = versions(config.tls_protocols.as_deref())?;
    let chain = certificates(cert_file).map_err(|reason| {
        format!(
            "Failed to load certificate: {}: {reason}",
            cert_file.display()
        )
    })?;
    let key = private_key(key_file, config.tls_key_file_pass.as_deref()).map_err(|reason| {
        format!(
            "Failed to load private key: {}: {reason}",
            key_file.display()
        )
    })?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| format!("Failed to configure tls-protocols and tls-ciphers: {error}"))?;
    let builder = match verifier(config, provider)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut made = builder.with_single_cert(chain, key).map_err(|error| {
        format!(
            "Failed to use certificate {} with private key {}: {error}",
            cert_file.display(),
            key_file.display()
        )
    })?;
    made.ignore_client_order = config.tls_prefer_server_ciphers;
    if config.tls_session_caching {
        made.session_storage = Arc::new(Sessions::new(config));
        made.send_tls13_tickets = TICKETS;
    } else {
        made.session_storage = Arc::new(NoServerSessionStorage {});
        made.send_tls13_tickets = 0;
    }
    Ok(Arc::new(made))
}

/// What clients' certificates are held to; none where none is asked for.
fn verifier(
    config: &Config,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if config.tls_auth_clients == TlsAuthClients::No {
        return Ok(None);
    }
    let (file, dir) = (&config.tls_ca_cert_file, &config.tls_ca_cert_dir);
    if file.is_none() && dir.is_none() {
        return Err("Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-auth-clients is enabled!".into());
    }
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        let certificates = certificates(path).map_err(|reason| not_trusted(path, &reason))?;
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| not_trusted(path, &error.to_string()))?;
        }
    }
    if let Some(dir) = dir {
        let files = files_of(dir).map_err(|error| not_trusted(dir, &error.to_string()))?;
        for path in files {
            // Such directories hold lists of revoked certificates and other things as well.
            let found = certificates(&path).unwrap_or_default();
            roots.add_parsable_certificates(found);
        }
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match config.tls_auth_clients {
        TlsAuthClients::Optional => builder.allow_unauthenticated(),
        TlsAuthClients::Yes | TlsAuthClients::No => builder,
    };
    let verifier = builder.build().map_err(|error| {
        format!("Failed to configure CA certificate(s) file/directory: {error}")
    })?;
    Ok(Some(verifier))
}

fn not_trusted(path: &Path, reason: &str) -> String {
    format!(
        "Failed to configure CA certificate(s) file/directory: {}: {reason}",
        path.display()
    )
}

fn files_of(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("no certificate in PEM".into());
    }
    Ok(found)
}

fn private_key(path: &Path, passphrase: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, String> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    if let Some((_, rest)) = text.split_once(BEGIN) {
        let (body, _) = rest.split_once(END).ok_or("its end is missing")?;
        let passphrase = passphrase.ok_or("it is encrypted, and there is no tls-key-file-pass")?;
        return decrypted(&format!("{BEGIN}{body}{END}\n"), passphrase);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(
            "keys encrypted in the traditional form cannot be read; convert it with 'openssl pkcs8 -topk8 -v2 aes-256-cbc'"
                .into(),
        );
    }
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| error.to_string())
}

fn decrypted(pem: &str, passphrase: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let (_, document) = pkcs8::SecretDocument::from_pem(pem).map_err(|error| error.to_string())?;
    let encrypted = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|error| error.to_string())?;
    let key = encrypted
        .decrypt(passphrase)
        .map_err(|error| format!("it cannot be decrypted with tls-key-file-pass: {error}"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn versions(words: Option<&[u8]>) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let Some(words) = words else {
        return Ok(rustls::ALL_VERSIONS.to_vec());
    };
    let words = String::from_utf8_lossy(words).to_ascii_lowercase();
    let mut versions = Vec::new();
    for word in words.split_ascii_whitespace() {
        match word {
            "tlsv1.3" => versions.push(&rustls::version::TLS13),
            "tlsv1.2" => versions.push(&rustls::version::TLS12),
            "tlsv1" | "tlsv1.1" => log!(Warning, "tls-protocols: {word} is not spoken here."),
            _ => return Err("Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2' and 'TLSv1.3'.".into()),
        }
    }
    if versions.is_empty() {
        return Err("tls-protocols names neither TLSv1.2 nor TLSv1.3".into());
    }
    Ok(versions)
}

/// The names by which configurations know the ciphers that there are.
const CIPHERS: &[(&str, CipherSuite)] = &[
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
];

/// Words of cipher lists that stand for many ciphers, among them all that there are here.
const CLASSES: &[&str] = &[
    "DEFAULT", "ALL", "HIGH", "ECDHE", "EECDH", "AEAD", "TLSv1.2",
];

fn provider(config: &Config) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    let (of_1_3, of_1_2): (Vec<_>, Vec<_>) = provider
        .cipher_suites
        .iter()
        .copied()
        .partition(|suite| suite.tls13().is_some());
    provider.cipher_suites = match config.tls_ciphersuites.as_deref() {
        None => of_1_3,
        Some(names) => chosen(names, &of_1_3).ok_or_else(|| not_chosen("ciphersuites", names))?,
    };
    provider
        .cipher_suites
        .extend(match config.tls_ciphers.as_deref() {
            None => of_1_2,
            Some(names) => chosen(names, &of_1_2).ok_or_else(|| not_chosen("ciphers", names))?,
        });
    Ok(provider)
}

fn not_chosen(what: &str, names: &[u8]) -> String {
    format!(
        "Failed to configure {what}: {}: none of them is known here",
        String::from_utf8_lossy(names)
    )
}

/// Those of `all` that a list names, in its order. None if that is none.
fn chosen(names: &[u8], all: &[SupportedCipherSuite]) -> Option<Vec<SupportedCipherSuite>> {
    let names = String::from_utf8_lossy(names);
    let (mut chosen, mut out): (Vec<SupportedCipherSuite>, Vec<CipherSuite>) = Default::default();
    for word in names.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        let (excluded, word) = match word.strip_prefix(['!', '-']) {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let named: Vec<SupportedCipherSuite> = match CIPHERS.iter().find(|(name, _)| *name == word)
        {
            Some((_, suite)) => all
                .iter()
                .copied()
                .filter(|s| s.suite() == *suite)
                .collect(),
            None if !excluded && CLASSES.contains(&word) => all.to_vec(),
            None => Vec::new(),
        };
        if excluded {
            out.extend(named.iter().map(SupportedCipherSuite::suite));
        } else {
            for suite in named {
                if !chosen.contains(&suite) {
                    chosen.push(suite);
                }
            }
        }
    }
    chosen.retain(|suite| !out.contains(&suite.suite()));
    (!chosen.is_empty()).then_some(chosen)
}

/// Sessions that clients may resume, for a time.
#[derive(Debug)]
struct Sessions {
    kept: Arc<ServerSessionMemoryCache>,
    lifetime_ms: i64,
}

/// In front of what is kept: when it was.
const STAMP_BYTES: usize = 8;

impl Sessions {
    fn new(config: &Config) -> Sessions {
        let size = match config.tls_session_cache_size as usize {
            0 => SESSIONS_MAX,
            size => size.min(SESSIONS_MAX),
        };
        Sessions {
            kept: ServerSessionMemoryCache::new(size),
            lifetime_ms: i64::from(config.tls_session_cache_timeout_secs) * 1000,
        }
    }

    fn fresh(&self, stamped: Vec<u8>) -> Option<Vec<u8>> {
        let (stamp, session) = stamped.split_first_chunk::<STAMP_BYTES>()?;
        let age_ms = clock::unix_millis().0 - i64::from_le_bytes(*stamp);
        (age_ms < self.lifetime_ms).then(|| session.to_vec())
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, session: Vec<u8>) -> bool {
        let mut stamped = clock::unix_millis().0.to_le_bytes().to_vec();
        stamped.extend_from_slice(&session);
        self.kept.put(key, stamped)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept.get(key).and_then(|stamped| self.fresh(stamped))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept.take(key).and_then(|stamped| self.fresh(stamped))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(config: &Config) -> Result<Vec<CipherSuite>, String> {
        let provider = provider(config)?;
        Ok(provider
            .cipher_suites
            .iter()
            .map(SupportedCipherSuite::suite)
            .collect())
    }

    #[test]
    fn every_cipher_there_is_has_its_name() {
        let all = suites(&Config::default()).unwrap();
        assert_eq!(all.len(), CIPHERS.len());
        for (name, suite) in CIPHERS {
            assert!(all.contains(suite), "{name}");
        }
    }

    #[test]
    fn lists_choose_ciphers_in_their_order() {
        let check = |ciphers: &str, expected: Option<&[&str]>| {
            let mut config = Config::default();
            config.tls_ciphers = Some(ciphers.into());
            config.tls_ciphersuites = Some(b"TLS_AES_128_GCM_SHA256".to_vec());
            let found = suites(&config).ok().map(|found| {
                assert_eq!(found[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
                let name = |suite| CIPHERS.iter().find(|(_, s)| s == suite).unwrap().0;
                found[1..].iter().map(name).collect::<Vec<_>>()
            });
            assert_eq!(found.as_deref(), expected, "{ciphers}");
        };
        check(
            "ECDHE-RSA-CHACHA20-POLY1305:AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256",
            Some(&["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256"]),
        );
        let names: Vec<&str> = CIPHERS[1..6].iter().map(|(name, _)| *name).collect();
        check(
            "HIGH:!aNULL:!MD5:!ECDHE-ECDSA-AES256-GCM-SHA384",
            Some(&names),
        );
        check("nonsense", None);
        check("!ECDHE-RSA-CHACHA20-POLY1305", None);
    }

    #[test]
    fn versions_are_named() {
        let check = |words: &str, expected: usize| {
            let found = versions(Some(words.as_bytes())).map_or(0, |found| found.len());
            assert_eq!(found, expected, "{words}");
        };
        check("TLSv1.2 tlsv1.3", 2);
        check("TLSv1.1 TLSv1.2", 1);
        check("TLSv1.1", 0);
        check("TLSv1.2 bogus", 0);
        assert_eq!(versions(None).unwrap().len(), 2);
    }

    #[test]
    fn sessions_are_kept_for_a_time() {
        let with_timeout = |secs| {
            let mut config = Config::default();
            config.tls_session_cache_timeout_secs = secs;
            let sessions = Sessions::new(&config);
            sessions.put(b"key".to_vec(), b"session".to_vec());
            (
                sessions.get(b"key"),
                sessions.take(b"key"),
                sessions.get(b"key"),
            )
        };
        let session = Some(b"session".to_vec());
        assert_eq!(with_timeout(300), (session.clone(), session, None));
        assert_eq!(with_timeout(0), (None, None, None));
    }
}
