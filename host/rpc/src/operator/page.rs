//! Lists in pages.

use std::fmt::Display;
use std::str::FromStr;

use super::OperatorError;

/// Rows of a page when none are asked for: a terminal's worth, a few times over.
pub const PAGE_SIZE_DEFAULT: u32 = 100;

/// The most rows of a page: a thousand tasks are some hundred kilobytes.
pub const PAGE_SIZE_MAX: u32 = 1_000;

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// 0: the default. More than [`PAGE_SIZE_MAX`] is that.
    pub size: u32,
    /// [`Paged::next`] of the page before; empty: from the beginning.
    pub token: String,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<T> {
    /// In the list's order.
    pub rows: Vec<T>,
    /// Where the next page begins; empty: there is none.
    pub next: String,
}

impl Page {
    /// How many rows to give.
    #[must_use]
    pub fn rows(&self) -> usize {
        let size = match self.size {
            0 => PAGE_SIZE_DEFAULT,
            size => size.min(PAGE_SIZE_MAX),
        };
        size as usize
    }

    /// The key after which the page begins; none: at the beginning. Keys are what a list is sorted
    /// by, so that rows which come or go between two pages neither repeat nor hide others.
    ///
    /// # Errors
    /// If the token is none that a host gave out.
    pub fn after<K: FromStr>(&self) -> Result<Option<K>, OperatorError> {
        if self.token.is_empty() {
            return Ok(None);
        }
        match self.token.parse() {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(OperatorError::Invalid(format!(
                "'{}' is not a page token: give the 'next' of the page before, or nothing",
                self.token.chars().take(64).collect::<String>()
            ))),
        }
    }

    /// The page: as many rows as were asked for, of those that come after the token, in order.
    pub fn take<T, K: Display>(
        &self,
        rows: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
    ) -> Paged<T> {
        let mut rows = rows.into_iter();
        let page: Vec<T> = rows.by_ref().take(self.rows()).collect();
        let next = match (page.last(), rows.next()) {
            (Some(last), Some(_)) => key(last).to_string(),
            _ => String::new(),
        };
        Paged { rows: page, next }
    }

    /// The same of those rows that are wanted, when at most `looked_max` are looked at for one page: it
    /// may have fewer rows than were asked for, or none, and yet a next one.
    pub fn take_wanted<T, U, K: Display>(
        &self,
        rows: impl IntoIterator<Item = T>,
        looked_max: usize,
        key: impl Fn(&T) -> K,
        wanted: impl Fn(&T) -> bool,
        row: impl Fn(T) -> U,
    ) -> Paged<U> {
        let mut page = Vec::new();
        let mut last = None;
        for (looked, item) in rows.into_iter().enumerate() {
            if looked == looked_max || page.len() == self.rows() {
                let next = last.map(|key: K| key.to_string()).unwrap_or_default();
                return Paged { rows: page, next };
            }
            last = Some(key(&item));
            if wanted(&item) {
                page.push(row(item));
            }
        }
        let next = String::new();
        Paged { rows: page, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pages of a list of numbers.
    fn walk(numbers: &[u32], size: u32) -> Vec<Vec<u32>> {
        let mut page = Page {
            size,
            token: String::new(),
        };
        let mut pages = Vec::new();
        loop {
            let after: Option<u32> = page.after().unwrap();
            let rest = numbers.iter().copied().filter(|&n| Some(n) > after);
            let paged = page.take(rest, |&n| n);
            pages.push(paged.rows);
            if paged.next.is_empty() {
                return pages;
            }
            page.token = paged.next;
        }
    }

    #[test]
    fn a_row_far_behind_those_not_wanted_is_found() {
        let mut page = Page {
            size: 2,
            token: String::new(),
        };
        let mut pages = Vec::new();
        loop {
            let after: Option<u32> = page.after().unwrap();
            let rest = (0..20u32).filter(|&n| Some(n) > after);
            let paged = page.take_wanted(rest, 5, |&n| n, |&n| n >= 12 && n % 2 == 0, |n| n);
            pages.push(paged.rows);
            if paged.next.is_empty() {
                break;
            }
            page.token = paged.next;
        }
        let wanted: [&[u32]; 5] = [&[], &[], &[12, 14], &[16, 18], &[]];
        assert_eq!(pages, wanted);
    }

    #[test]
    fn pages_are_whole_and_the_last_one_says_so() {
        assert_eq!(walk(&[1, 2, 3, 4, 5], 2), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(walk(&[1, 2, 3, 4], 2), [vec![1, 2], vec![3, 4]]);
        assert_eq!(walk(&[], 2), [Vec::<u32>::new()]);
        let many: Vec<u32> = (0..2_500).collect();
        let sizes = |size| walk(&many, size).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(u32::MAX), [1_000, 1_000, 500]);
        assert_eq!(sizes(0), [100; 25]);
    }

    #[test]
    fn a_token_of_somebody_elses_making_is_refused() {
        let page = Page {
            size: 1,
            token: "x".into(),
        };
        let error = page.after::<u32>().unwrap_err();
        assert!(matches!(error, OperatorError::Invalid(_)), "{error}");
    }
}
