//! The example of docs/fencing.md against a real `PostgreSQL`.

use crate::stage::on_stage;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use testbed::until;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/fencing");
struct Database {
    folder: PathBuf,
    root: PathBuf,
    server: Option<Child>,
}

impl Database {
    /// A database of its own that listens on a socket in a folder, where only this test finds it.
    async fn start(postgres: &Path) -> Self {
        let folder = std::env::temp_dir().join(format!("firedrill-bed-postgres-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("data")).unwrap();
        let root = postgres.canonicalize().unwrap().parent().unwrap().join("root");
        let mut database = Self { folder, root, server: None };
        let data = database.folder.join("data").display().to_string();
        let made = database
            .command("initdb")
            .args(["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let socket = database.folder.display().to_string();
        let mut server = database.command("postgres");
        server.args(["-D", &data, "-k", &socket, "-c", "listen_addresses=", "-F"]).stdout(Stdio::null()).stderr(Stdio::null());
        database.server = Some(server.spawn().unwrap());
        until("PostgreSQL answers", Duration::from_secs(30), || async {
            let answer = database.command("psql").args(["-c", "SELECT 1"]).output().unwrap();
            if answer.status.success() { Ok(()) } else { Err(text(&answer)) }
        })
        .await
        .unwrap();
        database
    }

    fn bin(&self) -> PathBuf {
        self.root.join("usr/lib/postgresql/15/bin")
    }

    /// One of its programs. `PostgreSQL` refuses to run as root, so it sees this user as somebody else.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-user=65534", "--map-group=65534", "setpriv", "--pdeathsig", "KILL"])
            .arg(self.bin().join(program));
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        let libraries = glob(&self.root.join("usr/lib"), "-linux-gnu");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir("/")
            .env("LD_LIBRARY_PATH", libraries)
            .env("PATH", format!("{}:{path}", self.bin().display()))
            .env("PGHOST", &self.folder)
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
    }

    fn sql(&self, text: &str) -> Output {
        self.command("psql").args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text]).output().unwrap()
    }

    /// The shell example, started under an epoch, with lines to write.
    fn consumer(&self, epoch: &str, lines: &str) -> Output {
        let token = self.folder.join(format!("epoch-{epoch}"));
        std::fs::write(&token, format!("{epoch}\n")).unwrap();
        let mut command = Command::new(format!("{EXAMPLE}/consumer.sh"));
        self.environment(&mut command);
        let mut child = command
            .env("FIREDRILL_EPOCH_FILE", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has read everything: a refusal ends it.
        let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
        child.wait_with_output().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn glob(folder: &Path, ending: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    entries.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).unwrap()
}

fn shell(program: &str, arguments: &[&std::ffi::OsStr]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_storage_that_knows_the_newer_epoch_refuses_what_an_old_holder_writes() {
    on_stage(async |stage| {
        let database = Database::start(&stage.bed.tools().postgres).await;
        let fence = std::fs::read_to_string(format!("{EXAMPLE}/fence.sql")).unwrap();
        let made = database.sql(&fence);
        assert!(made.status.success(), "{}", text(&made));
        let ledger = || text(&database.sql("SELECT string_agg(entry, ',' ORDER BY id) FROM ledger")).trim().to_owned();
        assert!(database.consumer("6", "one\ntwo\n").status.success());
        // The hand-over: the next holder writes, the old one wakes up and goes on.
        assert!(database.consumer("7", "three\n").status.success());
        let late = database.consumer("6", "late\nlater\n");
        assert!(!late.status.success());
        assert!(text(&late).contains("epoch 6 of shop/consumer is over: 7 is in force"), "{}", text(&late));
        assert_eq!(ledger(), "one,two,three");
        // Changing and deleting are writing too; nothing is written without an epoch; quotes are only text.
        for statement in ["UPDATE ledger SET entry = 'x'", "DELETE FROM ledger"] {
            let refused = database.sql(&format!("SET firedrill.epoch = '6'; {statement}"));
            assert!(text(&refused).contains("is over"), "{}", text(&refused));
        }
        assert!(text(&database.sql("INSERT INTO ledger (entry) VALUES ('none')")).contains("no epoch"));
        assert!(database.consumer("7", "it's\n").status.success());
        assert_eq!(ledger(), "one,two,three,it's");
        // What an old epoch has begun, a newer one waits for, and then shuts out.
        let mut old = database
            .command("psql")
            .args(["-X", "-v", "ON_ERROR_STOP=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = old.stdin.take().unwrap();
        input.write_all(b"SET firedrill.epoch = '7'; BEGIN; INSERT INTO ledger (entry) VALUES ('begun');\n").unwrap();
        until("the old epoch has begun", Duration::from_secs(10), || async {
            let held = text(
                &database.sql("SELECT count(*) FROM pg_locks WHERE relation = 'fence'::regclass AND pid <> pg_backend_pid()"),
            );
            if held.trim() == "0" { Err(held) } else { Ok(()) }
        })
        .await
        .unwrap();
        let waits =
            database.sql("SET statement_timeout = '1s'; SET firedrill.epoch = '8'; INSERT INTO ledger (entry) VALUES ('early')");
        assert!(text(&waits).contains("statement timeout"), "it does not wait: {}", text(&waits));
        input.write_all(b"COMMIT;\n").unwrap();
        drop(input);
        assert!(old.wait().unwrap().success());
        assert!(database.consumer("8", "eight\n").status.success());
        assert!(!database.consumer("7", "late\n").status.success());
        assert_eq!(ledger(), "one,two,three,it's,begun,eight");
        // The other example is one of this language at least.
        let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
        shell("python3", &["-c".as_ref(), parse.as_ref(), format!("{EXAMPLE}/consumer.py").as_ref()]);
    });
}
