//! Directives that take one of a few words, as Rust enums.
//!
//! The words of each stand in the order in which error texts list them.

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The words of the directive, in the order in which error texts list them.
            pub const WORDS: &'static [&'static str] = &[$($word,)+];

            /// The word as it is written in a configuration.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The variant of one of `WORDS`, to which the row has already held the value.
            pub(crate) fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    _ => unreachable!("a value holds a word of its row"),
                }
            }
        }

        impl Default for $name {
            /// The first word; the default of the directive stands in its row.
            fn default() -> Self { [$(Self::$variant,)+][0] }
        }
    };
}

choice! {
    /// Which channels a new user may use.
    AclPubsubDefault {
        Allchannels = "allchannels",
        Resetchannels = "resetchannels",
    }
}

choice! {
    /// When the append-only file is forced to disk.
    AppendFsync {
        /// Once per second; a crash of the operating system loses at most about a second.
        EverySec = "everysec",
        /// Before the reply of each write.
        Always = "always",
        /// When the operating system decides.
        No = "no",
    }
}

choice! {
    /// How the append-only file's newest bytes are kept until they are in it.
    AofWritePath {
        /// In a ring where that is safe.
        Auto = "auto",
        /// In memory that outlives the process, written to the file in large blocks.
        Ring = "ring",
        /// In the page cache, by write(2).
        Write = "write",
    }
}

choice! {
    /// Whether TLS clients show a certificate.
    TlsAuthClients {
        No = "no",
        Yes = "yes",
        /// They need not, but one that is shown must be valid.
        Optional = "optional",
    }
}

choice! {
    /// The least severe messages that reach the log.
    LogLevel {
        Debug = "debug",
        Verbose = "verbose",
        Notice = "notice",
        Warning = "warning",
        Nothing = "nothing",
    }
}

choice! {
    /// Which keys are deleted when the memory limit is reached.
    MaxmemoryPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllkeysLru = "allkeys-lru",
        AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random",
        /// None: commands that need memory are refused.
        Noeviction = "noeviction",
    }
}

choice! {
    /// What moves bytes between sockets and workers.
    IoBackend {
        /// io_uring where it works, else epoll.
        Auto = "auto",
        IoUring = "io_uring",
        Epoll = "epoll",
    }
}

choice! {
    /// How a command runs on a shard whose home is another worker.
    CrossShard {
        /// In place under the shard's baton, through its inbox only when the baton is taken.
        Auto = "auto",
        /// Always through the inbox of the home worker.
        Message = "message",
    }
}

choice! {
    /// What drives fsync of the append-only segments.
    StorageBackend {
        /// The one that measures best, today `Threads`.
        Auto = "auto",
        Threads = "threads",
        Glommio = "glommio",
    }
}

choice! {
    /// Whether the payloads of RESTORE and of files are checked deeply.
    SanitizeDump {
        No = "no",
        Yes = "yes",
        /// Only those sent by clients.
        Clients = "clients",
    }
}

choice! {
    /// Which service manager started the process and wants to know how it fares.
    Supervised {
        Upstart = "upstart",
        Systemd = "systemd",
        /// Whichever the environment shows.
        Auto = "auto",
        No = "no",
    }
}

choice! {
    /// Who may use something dangerous.
    LocalAccess {
        No = "no",
        Yes = "yes",
        /// Connections from this machine.
        Local = "local",
    }
}
