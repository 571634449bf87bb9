//! A task that misbehaves to order: the first argument says how.

use std::io::Write;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let given = |n: usize| args.get(n).map_or("", String::as_str);
    match given(1) {
        "nothing" => {}
        "exit" => std::process::exit(given(2).parse().unwrap_or(99)),
        "spin" => loop {
            std::hint::black_box(());
        },
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3_600)),
        "memory" => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&kept);
            }
        }
        "panic" => panic!("as ordered"),
        "echo" => {
            for (name, value) in std::env::vars() {
                println!("{name}={value}");
            }
            println!("{}", args.join(" "));
            eprintln!("to the error stream");
        }
        "read" => match std::fs::read(given(2)) {
            Ok(bytes) => {
                let written = std::io::stdout().write_all(&bytes);
                std::process::exit(i32::from(written.is_err()));
            }
            Err(error) => {
                println!("refused: {error}");
                std::process::exit(1);
            }
        },
        "write" => {
            if let Err(error) = std::fs::write(given(2), given(3)) {
                println!("refused: {error}");
                std::process::exit(1);
            }
        }
        "connect" => match std::net::TcpStream::connect(given(2)) {
            Ok(_) => println!("connected"),
            Err(error) => {
                println!("refused: {error}");
                std::process::exit(1);
            }
        },
        other => {
            println!("no such misbehaviour: {other}");
            std::process::exit(1);
        }
    }
}
