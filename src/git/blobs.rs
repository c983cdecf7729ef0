//! Contents of small blobs: the pointers that a history or a tree names.
//!
//! What surprises: git is not run for each question, but once for all of a process. A push of a thousand new files
//! asks a thousand times, and starting git takes longer than any answer. It ends when this process does, because its
//! input ends then.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::names::{BlobId, parse_pointer};
use super::{Error, Git, Result, Version};
use crate::clock::Stopwatch;
use crate::model::Oid;
use crate::model::limits::{BLOBS_KNOWN_MAX, POINTER_MAX_BYTES};
use crate::threads;

/// The blobs of one repository.
#[derive(Debug)]
pub struct Blobs {
    git: Git,
    sizes: Mutex<Option<Running>>,
    contents: Mutex<Option<Running>>,
    /// What `pointers_among` was told: relatives are asked about again and again.
    known: Mutex<HashMap<BlobId, Option<Version>>>,
}

/// What git is asked about a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Size,
    Content,
}

/// What git knows of an id.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A blob, and what is in it if that was asked, is small and is text.
    Blob { size: u64, text: Option<String> },
    /// Nothing, or no blob.
    None,
}

impl Answer {
    fn pointer(&self) -> Option<Version> {
        match self {
            Self::Blob { text: Some(text), .. } => parse_pointer(text),
            _ => None,
        }
    }
}

/// Questions that are asked before their answers are waited for: their ids fit into a pipe.
const QUESTIONS_AT_ONCE: usize = 500;

/// How long git may take to see that its input has ended.
const PATIENCE_AT_THE_END: Duration = Duration::from_millis(100);

impl Blobs {
    /// Reads blobs as `git` does. Starts nothing.
    pub fn new(git: Git) -> Self {
        Self { git, sizes: Mutex::default(), contents: Mutex::default(), known: Mutex::default() }
    }

    /// Reads the pointers among some blobs, in their order; stops at the first blob that is none.
    ///
    /// # Errors
    /// Those of running git.
    pub fn pointers_until_another(&self, blobs: &[BlobId]) -> Result<Vec<Version>> {
        let mut found = Vec::new();
        let known = self.known();
        for blob in blobs {
            match known.get(blob) {
                Some(Some(version)) => found.push(*version),
                Some(None) => return Ok(found),
                None => break,
            }
        }
        drop(known);
        let answers = self.ask(Question::Content, &blobs[found.len()..])?;
        found.extend(answers.iter().map_while(Answer::pointer));
        Ok(found)
    }

    /// Returns what git says of blobs, for `learn` of another process: a line for each, its id, and oid and size of a
    /// pointer.
    ///
    /// # Errors
    /// Those of running git.
    pub fn describe(&self, blobs: &[BlobId]) -> Result<Vec<u8>> {
        let mut pointers = self.pointers_among(blobs)?.into_iter().peekable();
        let mut text = String::new();
        for (place, blob) in blobs.iter().enumerate() {
            text.push_str(&blob.text());
            if let Some((_, Version { oid, size })) = pointers.next_if(|(at, _)| *at == place) {
                text.push_str(&format!(" {oid} {size}"));
            }
            text.push('\n');
        }
        Ok(text.into_bytes())
    }

    /// Takes over what `describe` returned. What does not parse is passed over.
    pub fn learn(&self, text: &[u8]) {
        let learnt = text.split(|&byte| byte == b'\n').filter_map(parse_description);
        self.known().extend(learnt);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<BlobId, Option<Version>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads those blobs that are pointers, each with its place in `blobs`. Larger blobs are not read.
    ///
    /// # Errors
    /// Those of running git.
    pub fn pointers_among(&self, blobs: &[BlobId]) -> Result<Vec<(usize, Version)>> {
        let mut known = self.known();
        if known.len() > BLOBS_KNOWN_MAX {
            known.clear();
        }
        let unknown: Vec<BlobId> = blobs.iter().copied().filter(|blob| !known.contains_key(blob)).collect();
        let sizes = self.ask(Question::Size, &unknown)?;
        let is_small =
            |answer: &Answer| matches!(answer, Answer::Blob { size, .. } if *size <= POINTER_MAX_BYTES);
        let small = unknown.iter().zip(&sizes).filter(|(_, answer)| is_small(answer));
        let small: Vec<BlobId> = small.map(|(blob, _)| *blob).collect();
        let contents = self.ask(Question::Content, &small)?;
        known.extend(unknown.into_iter().map(|blob| (blob, None)));
        known.extend(small.into_iter().zip(contents.iter().map(Answer::pointer)));
        let found = blobs.iter().enumerate();
        Ok(found.filter_map(|(place, blob)| Some((place, (*known.get(blob)?)?))).collect())
    }

    fn ask(&self, question: Question, blobs: &[BlobId]) -> Result<Vec<Answer>> {
        let place = match question {
            Question::Size => &self.sizes,
            Question::Content => &self.contents,
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = Vec::with_capacity(blobs.len());
        for group in blobs.chunks(QUESTIONS_AT_ONCE) {
            // After an error it is not put back: what it says next would belong to other questions.
            let mut running = place.take().map_or_else(|| Running::start(&self.git, question), Ok)?;
            running.ask(group)?;
            for _ in group {
                answers.push(running.answer(&self.git)?);
            }
            *place = Some(running);
        }
        Ok(answers)
    }
}

fn parse_description(line: &[u8]) -> Option<(BlobId, Option<Version>)> {
    let mut words = line.split(|&byte| byte == b' ');
    let blob = BlobId::parse(words.next()?)?;
    let text = |word| std::str::from_utf8(word).ok();
    let Some(oid) = words.next() else { return Some((blob, None)) };
    let version = Version { oid: Oid::parse(text(oid)?).ok()?, size: text(words.next()?)?.parse().ok()? };
    Some((blob, Some(version)))
}

/// A git that answers questions until its input ends.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Taken when it is to end.
    input: Option<ChildStdin>,
    answers: mpsc::Receiver<Answer>,
}

impl Running {
    fn start(git: &Git, question: Question) -> Result<Self> {
        let mode = match question {
            Question::Size => "--batch-check",
            Question::Content => "--batch",
        };
        let mut command: Command = git.command(["cat-file", mode]);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|source| Error::Missing { source })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, answers) = mpsc::channel();
        // On a thread of its own, so that git can always go on answering while it is asked. Without one git ends at once:
        // its input does.
        threads::start(move || {
            let Some(mut output) = output.map(BufReader::new) else { return };
            while let Ok(answer) = read_answer(&mut output, question) {
                if sender.send(answer).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { child, input, answers })
    }

    fn ask(&mut self, blobs: &[BlobId]) -> Result<()> {
        let lines: String = blobs.iter().map(|blob| blob.text() + "\n").collect();
        let input = self.input.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(input.write_all(lines.as_bytes())?)
    }

    fn answer(&self, git: &Git) -> Result<Answer> {
        let watch = Stopwatch::start();
        loop {
            match self.answers.recv_timeout(Duration::from_millis(20)) {
                Ok(answer) => return Ok(answer),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if watch.elapsed() > git.patience || git.cancel.is_raised() {
                return Err(Error::Slow { command: "cat-file".into(), patience: git.patience });
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        let watch = Stopwatch::start();
        while watch.elapsed() < PATIENCE_AT_THE_END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_micros(500));
        }
        // It has ended, or is stuck and has nothing to lose. Nobody waits for it: an agent that was told to end ends.
        let _ = self.child.kill();
    }
}

/// Reads `<id> <type> <size>\n`, and `<content>\n` behind it where that was asked; `<id> missing\n` is nothing.
fn read_answer(output: &mut impl BufRead, question: Question) -> io::Result<Answer> {
    let mut line = String::new();
    if output.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let words: Vec<&str> = line.trim_end().split(' ').collect();
    let [_, kind, size] = words[..] else { return Ok(Answer::None) };
    let Ok(size) = size.parse::<u64>() else { return Ok(Answer::None) };
    let mut text = None;
    if question == Question::Content {
        let mut content = output.take(size.saturating_add(1));
        if size <= POINTER_MAX_BYTES {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            bytes.pop();
            text = String::from_utf8(bytes).ok();
        } else {
            io::copy(&mut content, &mut io::sink())?;
        }
        if content.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(if kind == "blob" { Answer::Blob { size, text } } else { Answer::None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(question: Question, mut output: &[u8]) -> Vec<Answer> {
        std::iter::from_fn(|| read_answer(&mut output, question).ok()).collect()
    }

    fn blob(size: u64, text: Option<&str>) -> Answer {
        Answer::Blob { size, text: text.map(str::to_owned) }
    }

    #[test]
    fn each_question_gets_its_own_answer_whatever_the_blobs_hold() {
        let large = "x".repeat(2000);
        let output =
            format!("a blob 4\ntext\nb missing\nc blob 2000\n{large}\nd tree 3\n\n\n\n\ne blob 0\n\n");
        let expected =
            [blob(4, Some("text")), Answer::None, blob(2000, None), Answer::None, blob(0, Some(""))];
        assert_eq!(answers(Question::Content, output.as_bytes()), expected);
    }

    #[test]
    fn sizes_come_without_contents() {
        let output = b"a blob 4\nb missing\nc commit 200\n";
        assert_eq!(answers(Question::Size, output), [blob(4, None), Answer::None, Answer::None]);
    }

    #[test]
    fn an_answer_that_is_cut_is_none() {
        assert_eq!(answers(Question::Content, b"a blob 4\ntext\nb blob 40\ntext"), [blob(4, Some("text"))]);
    }

    #[test]
    fn what_is_described_is_learnt_and_not_asked_again() {
        let version = Version { oid: Oid::of(b"x"), size: 7 };
        let [pointer, other] = [b'a', b'b'].map(|digit| BlobId::parse(&[digit; 40]).expect("an id"));
        let nowhere = || Blobs::new(Git::new("/nonexistent".into(), Duration::ZERO, Default::default()));
        let blobs = nowhere();
        blobs.known().extend([(pointer, Some(version)), (other, None)]);
        let text = blobs.describe(&[other, pointer]).expect("nothing is asked");
        let blobs = nowhere();
        blobs.learn(&text);
        blobs.learn(b"no id\n");
        assert_eq!(blobs.pointers_among(&[pointer, other]).expect("nothing is asked"), [(0, version)]);
        assert_eq!(blobs.pointers_until_another(&[pointer, other]).expect("nothing is asked"), [version]);
    }

    #[test]
    fn only_a_pointer_is_one() {
        let version = Version { oid: Oid::of(b"x"), size: 7 };
        let text = crate::git::names::pointer_text(version);
        assert_eq!(blob(130, Some(&text)).pointer(), Some(version));
        assert_eq!(blob(4, Some("text")).pointer(), None);
        assert_eq!(blob(4, None).pointer(), None);
    }
}
