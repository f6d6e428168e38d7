//! Whom a node gave its word that it may form the cluster. Kept in `gathering.json`: a node that comes back keeps its word,
//! so that no two nodes ever have the word of a majority.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::folder::Folder;
use crate::store::Damage;

pub(crate) const FILE: &str = "gathering.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// This node's, as long as it has no other.
    id: String,
    /// Who may form the cluster.
    promised: Option<Candidate>,
}

/// Who wants to form the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    /// Its peer address, for people.
    pub(crate) address: String,
    /// Which asking it is: what is taken back is the word of this one, however late that is heard.
    pub(crate) attempt: u64,
}

#[derive(Debug)]
pub(crate) struct Word<'a> {
    folder: &'a Folder,
    kept: Mutex<Kept>,
}

impl<'a> Word<'a> {
    pub(crate) fn of(folder: &'a Folder) -> Result<Self, Error> {
        let path = folder.path(FILE);
        let kept = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| Damage::new(&path, "", error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = format!("{:032x}", u128::from_le_bytes(crate::token::random()));
                Kept { id, promised: None }
            }
            Err(error) => return Err(Damage::new(&path, "", error).into()),
        };
        let word = Self { folder, kept: Mutex::new(kept.clone()) };
        word.keep(&kept)?;
        Ok(word)
    }

    pub(crate) fn me(&self) -> String {
        self.kept.lock().expect("no panic while locked").id.clone()
    }

    pub(crate) fn promised(&self) -> Option<Candidate> {
        self.kept.lock().expect("no panic while locked").promised.clone()
    }

    /// Gives the word to this one; who has it otherwise.
    pub(crate) fn give(&self, to: &Candidate) -> Result<(), Candidate> {
        let mut kept = self.kept.lock().expect("no panic while locked");
        match &kept.promised {
            Some(other) if other.id != to.id => return Err(other.clone()),
            Some(same) if same == to => return Ok(()),
            Some(_) | None => {}
        }
        let given = Kept { promised: Some(to.clone()), ..kept.clone() };
        // What is not on disk was not said.
        if let Err(error) = self.keep(&given) {
            tracing::warn!(%error, "a promise could not be kept and is not given");
            return Err(Candidate { id: kept.id.clone(), address: error.to_string(), attempt: 0 });
        }
        *kept = given;
        Ok(())
    }

    /// This one does not want to form the cluster any more; `attempt`: which asking it means, `None`: whichever.
    pub(crate) fn take_back(&self, from: &str, attempt: Option<u64>) {
        let mut kept = self.kept.lock().expect("no panic while locked");
        let means =
            |promised: &Candidate| promised.id == from && attempt.is_none_or(|attempt| attempt == promised.attempt);
        if kept.promised.as_ref().is_some_and(means) {
            let free = Kept { promised: None, ..kept.clone() };
            if self.keep(&free).is_ok() {
                *kept = free;
            }
        }
    }

    fn keep(&self, kept: &Kept) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(kept).map_err(|error| Error::Internal(error.to_string()))?;
        self.folder.write(FILE, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str) -> Candidate {
        Candidate { id: id.into(), address: "10.0.0.1:7081".into(), attempt: 1 }
    }

    #[test]
    fn a_word_is_given_to_one_and_kept_over_a_restart_until_that_one_gives_it_back() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::open(data.path()).unwrap();
        let word = Word::of(&folder).unwrap();
        let me = word.me();
        assert_eq!(word.give(&candidate("a")), Ok(()));
        assert_eq!(word.give(&candidate("a")), Ok(()));
        assert_eq!(word.give(&candidate("b")), Err(candidate("a")));
        drop(word);
        let word = Word::of(&folder).unwrap();
        assert_eq!((word.me(), word.promised()), (me, Some(candidate("a"))));
        word.take_back("b", Some(1));
        assert_eq!(word.give(&candidate("b")), Err(candidate("a")));
        // Asked again: what was taken back before, and is heard late, is not this word.
        let again = Candidate { attempt: 2, ..candidate("a") };
        assert_eq!(word.give(&again), Ok(()));
        word.take_back("a", Some(1));
        assert_eq!(word.give(&candidate("b")), Err(again));
        word.take_back("a", Some(2));
        assert_eq!(word.give(&candidate("b")), Ok(()));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::open(data.path()).unwrap();
        folder.write(FILE, b"{").unwrap();
        assert!(Word::of(&folder).unwrap_err().to_string().contains(FILE));
    }
}
