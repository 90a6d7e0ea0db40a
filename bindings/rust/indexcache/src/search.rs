// SPDX-License-Identifier: Apache-2.0
use crate::handle::{create, handle};
use crate::text::asked_twice;
use crate::{check, ffi, Result, SearchCandidate, SearchDesc, SearchInfo, SearchStep};
use core::ptr::NonNull;

/// Searches for the layers that can share: it says which pattern to evaluate next and is told the loss. Needs no
/// context and runs no model. One thread at a time may use it; evaluations may run anywhere and be told in any order.
///
/// ```
/// use indexcache::{Search, SearchDesc, SearchState, SearchStrategy};
///
/// let evaluate = |pattern: &str| pattern.rfind('F').unwrap_or(0) as f64; // stands for a model on fixed batches
/// let mut search = Search::new(&SearchDesc::new().num_layers(6).strategy(SearchStrategy::GREEDY).num_full(3))?;
/// while let Some(candidate) = search.next_candidate()? {
///     let pattern = search.candidate_pattern(candidate.id)?;
///     search.tell(candidate.id, evaluate(&pattern))?;
/// }
/// assert_eq!(search.info()?.state, SearchState::DONE);
/// assert_eq!(search.accepted()?, "FFFSSS");
/// # Ok::<(), indexcache::Error>(())
/// ```
pub struct Search {
    raw: NonNull<ffi::ic_search>,
}

handle!(Search, ic_search, ic_search_destroy);

impl Search {
    /// Starts a search, or resumes one from its journal.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT), [`PARSE`](crate::Status::PARSE),
    /// [`SCHEDULE_INVALID`](crate::Status::SCHEDULE_INVALID), [`JOURNAL`](crate::Status::JOURNAL),
    /// [`UNSUPPORTED`](crate::Status::UNSUPPORTED).
    pub fn new(desc: &SearchDesc<'_>) -> Result<Self> {
        // SAFETY: a complete desc, whose texts and lists have the lengths that it says and live during the call.
        let raw = create(|out| unsafe { ffi::ic_search_create(desc.as_raw(), out) })?;
        Ok(Self { raw })
    }

    /// A pattern that can be evaluated now and is not handed out yet. `None`: the search has ended, or waits for answers
    /// to what is handed out; [`info`](Self::info) says which.
    ///
    /// # Errors
    /// [`Status::OUT_OF_MEMORY`](crate::Status::OUT_OF_MEMORY).
    pub fn next_candidate(&mut self) -> Result<Option<SearchCandidate>> {
        let mut candidate = ffi::ic_search_candidate::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_search_next(self.as_raw(), &mut candidate) })?;
        Ok((candidate.id >= 0).then(|| SearchCandidate::from(&candidate)))
    }

    /// The F/S string of a candidate, open or decided.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) when there is no such candidate yet.
    pub fn candidate_pattern(&self, id: i64) -> Result<String> {
        // SAFETY: a live handle; the rest is given by asked_twice.
        asked_twice(|buffer, size| unsafe { ffi::ic_search_candidate_pattern(self.as_raw(), id, buffer, size) })
    }

    /// The loss of a candidate. The same loss again changes nothing.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) (not finite; no such candidate yet),
    /// [`ALREADY_TOLD`](crate::Status::ALREADY_TOLD).
    pub fn tell(&mut self, id: i64, loss: f64) -> Result<()> {
        // SAFETY: a live handle.
        check(unsafe { ffi::ic_search_tell(self.as_raw(), id, loss) })
    }

    /// Says that a candidate cannot be evaluated: it competes no longer.
    ///
    /// # Errors
    /// Those of [`tell`](Self::tell).
    pub fn reject(&mut self, id: i64) -> Result<()> {
        // SAFETY: a live handle.
        check(unsafe { ffi::ic_search_reject(self.as_raw(), id) })
    }

    /// Gives a candidate back unanswered: [`next_candidate`](Self::next_candidate) hands it out again.
    ///
    /// # Errors
    /// Those of [`tell`](Self::tell).
    pub fn release(&mut self, id: i64) -> Result<()> {
        // SAFETY: a live handle.
        check(unsafe { ffi::ic_search_release(self.as_raw(), id) })
    }

    /// State, losses and counts.
    ///
    /// # Errors
    /// None is known.
    pub fn info(&self) -> Result<SearchInfo> {
        let mut info = ffi::ic_search_info::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_search_get_info(self.as_raw(), &mut info) })?;
        Ok(SearchInfo::from(&info))
    }

    /// The accepted pattern: of the last step, or the start's. Not greedy: the start's until the search has ended.
    ///
    /// # Errors
    /// None is known.
    pub fn accepted(&self) -> Result<String> {
        // SAFETY: a live handle; the rest is given by asked_twice.
        asked_twice(|buffer, size| unsafe { ffi::ic_search_accepted(self.as_raw(), buffer, size) })
    }

    /// What a step accepted, `0..num_steps` of [`info`](Self::info): together the whole trajectory.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) when there is no such step.
    pub fn step(&self, step: i32) -> Result<SearchStep> {
        let mut info = ffi::ic_search_step::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_search_get_step(self.as_raw(), step, &mut info) })?;
        Ok(SearchStep::from(&info))
    }

    /// The F/S string after a step.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) when there is no such step.
    pub fn step_pattern(&self, step: i32) -> Result<String> {
        // SAFETY: a live handle; the rest is given by asked_twice.
        asked_twice(|buffer, size| unsafe { ffi::ic_search_step_pattern(self.as_raw(), step, buffer, size) })
    }

    /// The journal from a byte on, to be appended to a file after each answer; the file's content resumes the search:
    /// [`SearchDesc::journal`].
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) behind its end.
    pub fn journal(&self, from_byte: i64) -> Result<String> {
        // SAFETY: a live handle; the rest is given by asked_twice.
        asked_twice(|buffer, size| unsafe { ffi::ic_search_journal(self.as_raw(), from_byte, buffer, size) })
    }
}
