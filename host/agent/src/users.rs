//! Whom tasks run as.

use std::io;

use proffer_model::FrameworkId;

use crate::runner::TaskUser;

/// The first user that is neither the system's nor a person's, by the usual division of numbers.
const RANGE_FIRST_MIN: u32 = 60_000;

/// Whom the tasks of each framework run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskUsers {
    /// Whom the agent runs as.
    Own,
    /// All as one user.
    One(TaskUser),
    /// Each framework's as a user (and group) of its own out of this range, which should be nobody
    /// else's. Frameworks whose numbers are further apart than the range is long share one.
    Range {
        /// The first.
        first: u32,
        /// The last.
        last: u32,
    },
}

impl TaskUsers {
    /// `nobody` if this process is root; otherwise tasks run as whoever this is.
    ///
    /// # Errors
    /// If the list of users cannot be read or has no `nobody`.
    pub fn default_here() -> io::Result<Self> {
        if rustix::process::geteuid().is_root() {
            named("nobody").map(Self::One)
        } else {
            Ok(Self::Own)
        }
    }

    /// A user of this machine by name, or a range of numbers as `100000-165535`.
    ///
    /// # Errors
    /// If there is no such user, the range is none, or this process may not start others as them.
    pub fn parse(text: &str) -> io::Result<Self> {
        let is_range = text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('-');
        if !is_range {
            return named(text).map(Self::One);
        }
        let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidInput, problem);
        let ends = text
            .split_once('-')
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let Some((first, last)) = ends.filter(|(first, last)| first <= last && *last < u32::MAX)
        else {
            let problem = format!("'{text}' is no range of users, as in 100000-165535");
            return Err(invalid(problem));
        };
        if first < RANGE_FIRST_MIN {
            let problem = format!(
                "'{text}' begins below {RANGE_FIRST_MIN}, where the system's and people's users are"
            );
            return Err(invalid(problem));
        }
        if !rustix::process::geteuid().is_root() {
            let problem = format!("only root can run tasks as '{text}'");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        Ok(Self::Range { first, last })
    }

    /// Whom a framework's tasks run as; none: whom the agent runs as.
    #[must_use]
    pub fn of(self, framework: FrameworkId) -> Option<TaskUser> {
        match self {
            Self::Own => None,
            Self::One(user) => Some(user),
            Self::Range { first, last } => {
                // Parsed ranges hold at least one, and end below the largest number.
                let id = first + framework.0 % (last - first + 1);
                Some(TaskUser { uid: id, gid: id })
            }
        }
    }
}

fn named(name: &str) -> io::Result<TaskUser> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let mut users = users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let number = |text: &&str| text.parse::<u32>().ok();
    let found = users.find_map(|fields| match fields.as_slice() {
        [user, _, uid, gid, ..] if *user == name => Some((number(uid)?, number(gid)?)),
        _ => None,
    });
    let Some((uid, gid)) = found else {
        let text = format!(
            "task user '{name}' is not in /etc/passwd, and no range of numbers as 100000-165535; see \
             --task-user"
        );
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    };
    let own = rustix::process::geteuid();
    if !own.is_root() && own.as_raw() != uid {
        let text = format!("only root can run tasks as '{name}'");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(TaskUser { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frameworks_have_users_of_their_own_out_of_a_range() {
        let users = TaskUsers::Range {
            first: 100_000,
            last: 100_002,
        };
        let of = |id| users.of(FrameworkId(id)).map(|user| (user.uid, user.gid));
        let ids: Vec<_> = (1..=4).filter_map(of).collect();
        assert_eq!(
            ids,
            [
                (100_001, 100_001),
                (100_002, 100_002),
                (100_000, 100_000),
                (100_001, 100_001)
            ]
        );
    }

    #[test]
    fn what_is_no_user_and_no_range_is_refused() {
        for text in [
            "",
            "no such user",
            "1-",
            "5-4",
            "100000-4294967295",
            "99-200000",
            "7-x",
        ] {
            assert!(TaskUsers::parse(text).is_err(), "{text}");
        }
    }
}
