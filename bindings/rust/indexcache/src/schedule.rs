// SPDX-License-Identifier: Apache-2.0
use crate::handle::{create, handle};
use crate::text::asked_twice;
use crate::{check, ffi, Engine, LayerInfo, Result, ScheduleDesc, ScheduleInfo};
use core::ptr::NonNull;

/// Which layers compute indices, and which reuse whose. Immutable; needs no context.
///
/// ```
/// use indexcache::{Schedule, ScheduleDesc};
///
/// let schedule = Schedule::new(&ScheduleDesc::new().num_layers(8).freq(4))?;
/// assert_eq!(schedule.pattern()?, "FFSSSFSS");
/// assert_eq!(schedule.layer(4)?.source_layer, Some(1));
/// assert_eq!(schedule.cut(4)?, Some(1));
/// # Ok::<(), indexcache::Error>(())
/// ```
pub struct Schedule {
    raw: NonNull<ffi::ic_schedule>,
}

handle!(Schedule, ic_schedule, ic_schedule_destroy, immutable);

impl Schedule {
    /// Resolves a schedule.
    ///
    /// # Errors
    /// [`Status::PARSE`](crate::Status::PARSE), [`INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT),
    /// [`SCHEDULE_CONFLICT`](crate::Status::SCHEDULE_CONFLICT),
    /// [`SCHEDULE_INVALID`](crate::Status::SCHEDULE_INVALID),
    /// [`MODEL_UNSUPPORTED`](crate::Status::MODEL_UNSUPPORTED).
    pub fn new(desc: &ScheduleDesc<'_>) -> Result<Self> {
        // SAFETY: a complete desc, whose texts and list live during the call.
        let raw = create(|out| unsafe { ffi::ic_schedule_create(desc.as_raw(), out) })?;
        Ok(Self { raw })
    }

    /// Counts and identity.
    ///
    /// # Errors
    /// None is known.
    pub fn info(&self) -> Result<ScheduleInfo> {
        let mut info = ffi::ic_schedule_info::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_schedule_get_info(self.as_raw(), &mut info) })?;
        Ok(ScheduleInfo::from(&info))
    }

    /// One layer, MTP layers included.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) when there is no such layer.
    pub fn layer(&self, layer: i32) -> Result<LayerInfo> {
        let mut info = ffi::ic_layer_info::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_schedule_get_layer(self.as_raw(), layer, &mut info) })?;
        Ok(LayerInfo::from(&info))
    }

    /// The source layer whose indices must be handed over at a pipeline cut in front of `first_layer`, if any: see
    /// [`Step::export`](crate::Step::export) and [`Step::import`](crate::Step::import).
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) outside of `1..=num_layers`.
    pub fn cut(&self, first_layer: i32) -> Result<Option<i32>> {
        let mut source = -1;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_schedule_get_cut(self.as_raw(), first_layer, &mut source) })?;
        Ok((source >= 0).then_some(source))
    }

    /// Which of `num_slots` slots of a cache a Full or MTP layer writes.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn cache_slot(&self, layer: i32, num_slots: i32) -> Result<i32> {
        let mut slot = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_schedule_get_cache_slot(self.as_raw(), layer, num_slots, &mut slot) })?;
        Ok(slot)
    }

    /// The F/S string, one letter per sparse layer of the stack.
    ///
    /// # Errors
    /// None is known.
    pub fn pattern(&self) -> Result<String> {
        // SAFETY: a live handle; the rest is given by asked_twice.
        asked_twice(|buffer, size| unsafe { ffi::ic_schedule_pattern(self.as_raw(), buffer, size) })
    }

    /// Text for people: every layer, where its mode came from, every disagreement, warnings.
    ///
    /// # Errors
    /// None is known.
    pub fn explain(&self) -> Result<String> {
        // SAFETY: a live handle; the rest is given by asked_twice.
        asked_twice(|buffer, size| unsafe { ffi::ic_schedule_explain(self.as_raw(), buffer, size) })
    }

    /// What an engine takes to run this schedule, as JSON.
    ///
    /// # Errors
    /// [`Status::UNSUPPORTED`](crate::Status::UNSUPPORTED) when that engine cannot express it.
    pub fn export(&self, engine: Engine) -> Result<String> {
        // SAFETY: a live handle; the rest is given by asked_twice.
        asked_twice(|buffer, size| unsafe { ffi::ic_schedule_export(self.as_raw(), engine.0, buffer, size) })
    }
}
