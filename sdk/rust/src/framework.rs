//! Frameworks: the trait to implement, the step that its methods work in, and the contract's types.
//!
//! [`Framework`] says what to implement, [`Step`] what a method can do. The types of events and
//! commands are those of `wit/framework/model.wit`, re-exported here.

mod answer;
pub mod guest;
mod host;
mod http;
mod room;
mod state;
mod step;
mod values;

pub use answer::TemplateIndex;
pub use bindings::proffer::framework::model::{
    Accept, Act, Agent, AgentChange, Answer, Attribute, AttributeValue, Availability, Batch, Cause,
    Check, Command, Consequence, Constraint, Container, Context, CreateVolume, Decline, Demand,
    Due, Event, Executor, Explain, Explained, Explanation, Finish, Fired, Holding, Holdings,
    HttpProbe, Input, InputMarks, InverseAnswer, InverseOffer, Kill, Marks, Message, Mount, Near,
    Offer, OfferId, Operation, OperationState, OperationUpdate, Other, Part, Pile, Probe,
    Publication, Purpose, Quantity, Reconcile, Reconciled, Rejection, Request, Rescinded, Reserve,
    Response, RevocableUse, Shape, Source, Standing, Task, TaskState, Template, Terms, Test, Timer,
    Update,
};
pub use bindings::proffer::framework::state::{Page, StateError};
pub use bindings::proffer::types::values::{
    AgentId, Amount, Duration, Pair, Range, Reason, Remedy, Timestamp, Window,
};
pub use host::{Backend, Host};
pub use http::InvalidPath;
pub use room::Room;
pub use state::{Entries, State};
pub use step::Step;
pub use values::{InvalidShape, is_final, mebibytes, units};

/// A framework: a function from events to commands.
///
/// Implement [`start`](Framework::start) and the methods of the events that matter; the others do
/// nothing. Or implement [`step`](Framework::step) and see the whole batch at once.
///
/// A method that returns an error fails the whole step: nothing of it happens, and its events come
/// again to a new instance. That is for a state that cannot be read, not for a bad request.
///
/// The instance may be dropped between any two steps. What must last goes through
/// [`Step::state`]; fields of the implementing type are a cache that `start` fills.
#[allow(
    unused_variables,
    reason = "most methods do nothing unless implemented, and their parameters are named for the docs"
)]
pub trait Framework: Sized {
    /// Makes an instance from configuration and state. It can read the state and change nothing.
    ///
    /// # Errors
    /// In the operator's words: why this configuration or state cannot be used.
    fn start(context: &Context, host: &mut Host<'_>) -> Result<Self, String>;

    /// Takes one batch. This one calls the methods below, event by event, and [`end`](Self::end).
    ///
    /// # Errors
    /// Fails the step.
    fn step(&mut self, step: &mut Step<'_>, events: Vec<Event>) -> Result<(), String> {
        for event in events {
            dispatch(self, step, event)?;
        }
        self.end(step)
    }

    /// A life begins, goes on or was upgraded.
    ///
    /// # Errors
    /// Fails the step; after an upgrade it brings the former version back.
    fn started(&mut self, step: &mut Step<'_>, cause: Cause) -> Result<(), String> {
        Ok(())
    }

    /// The configuration was changed from `before`; `start` was given the new one.
    ///
    /// # Errors
    /// Refuses the change.
    fn config_changed(&mut self, step: &mut Step<'_>, before: String) -> Result<(), String> {
        Ok(())
    }

    /// Offers. What is not named by a command of this step is declined for 5 s.
    ///
    /// # Errors
    /// Fails the step.
    fn offers(&mut self, step: &mut Step<'_>, offers: Vec<Offer>) -> Result<(), String> {
        Ok(())
    }

    /// Kept offers are gone.
    ///
    /// # Errors
    /// Fails the step.
    fn rescinded(&mut self, step: &mut Step<'_>, gone: Vec<Rescinded>) -> Result<(), String> {
        Ok(())
    }

    /// Something is to be given back.
    ///
    /// # Errors
    /// Fails the step.
    fn inverse_offers(
        &mut self,
        step: &mut Step<'_>,
        wanted: Vec<InverseOffer>,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Inverse offers are off.
    ///
    /// # Errors
    /// Fails the step.
    fn inverse_rescinded(
        &mut self,
        step: &mut Step<'_>,
        gone: Vec<Rescinded>,
    ) -> Result<(), String> {
        Ok(())
    }

    /// What became of tasks.
    ///
    /// # Errors
    /// Fails the step.
    fn updates(&mut self, step: &mut Step<'_>, updates: Vec<Update>) -> Result<(), String> {
        Ok(())
    }

    /// What became of operations other than launches.
    ///
    /// # Errors
    /// Fails the step.
    fn operation_updates(
        &mut self,
        step: &mut Step<'_>,
        updates: Vec<OperationUpdate>,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Agents where the framework has something changed their standing.
    ///
    /// # Errors
    /// Fails the step.
    fn agents_changed(
        &mut self,
        step: &mut Step<'_>,
        changes: Vec<AgentChange>,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Bytes from tasks.
    ///
    /// # Errors
    /// Fails the step.
    fn messages(&mut self, step: &mut Step<'_>, messages: Vec<Message>) -> Result<(), String> {
        Ok(())
    }

    /// Timers fired.
    ///
    /// # Errors
    /// Fails the step.
    fn timers(&mut self, step: &mut Step<'_>, fired: Vec<Fired>) -> Result<(), String> {
        Ok(())
    }

    /// An operator's request. This one answers 404.
    ///
    /// # Errors
    /// Fails the step; alone and for the third time, the operator gets 500.
    fn request(&mut self, step: &mut Step<'_>, request: Request) -> Result<(), String> {
        step.respond(request.text(404, "this framework takes no requests\n"));
        Ok(())
    }

    /// Nobody waits for this open response any more.
    ///
    /// # Errors
    /// Fails the step.
    fn request_closed(&mut self, step: &mut Step<'_>, request: u64) -> Result<(), String> {
        Ok(())
    }

    /// Commands of earlier steps were not done. This one writes them to the log.
    ///
    /// # Errors
    /// Fails the step.
    fn rejected(&mut self, step: &mut Step<'_>, rejections: Vec<Rejection>) -> Result<(), String> {
        for rejection in rejections {
            crate::warn!(
                "{} {} was not done: {}",
                rejection.command,
                rejection.subject,
                rejection.why
            );
        }
        Ok(())
    }

    /// The end of a reconcile.
    ///
    /// # Errors
    /// Fails the step.
    fn reconciled(&mut self, step: &mut Step<'_>, end: Reconciled) -> Result<(), String> {
        Ok(())
    }

    /// Answer to [`Step::list_holdings`].
    ///
    /// # Errors
    /// Fails the step.
    fn holdings(&mut self, step: &mut Step<'_>, holdings: Holdings) -> Result<(), String> {
        Ok(())
    }

    /// Answer to [`Step::explain`].
    ///
    /// # Errors
    /// Fails the step.
    fn explained(&mut self, step: &mut Step<'_>, explained: Explained) -> Result<(), String> {
        Ok(())
    }

    /// After all events of the batch: the place for what depends on all of them, such as restating
    /// demand and writing the state once.
    ///
    /// # Errors
    /// Fails the step.
    fn end(&mut self, step: &mut Step<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// Calls the method of `event`.
///
/// # Errors
/// The method's.
pub fn dispatch<F: Framework>(
    framework: &mut F,
    step: &mut Step<'_>,
    event: Event,
) -> Result<(), String> {
    match event {
        Event::Started(cause) => framework.started(step, cause),
        Event::ConfigChanged(before) => framework.config_changed(step, before),
        Event::Offers(offers) => framework.offers(step, offers),
        Event::Rescinded(gone) => framework.rescinded(step, gone),
        Event::InverseOffers(wanted) => framework.inverse_offers(step, wanted),
        Event::InverseRescinded(gone) => framework.inverse_rescinded(step, gone),
        Event::Updates(updates) => framework.updates(step, updates),
        Event::OperationUpdates(updates) => framework.operation_updates(step, updates),
        Event::AgentsChanged(changes) => framework.agents_changed(step, changes),
        Event::Messages(messages) => framework.messages(step, messages),
        Event::Timers(fired) => framework.timers(step, fired),
        Event::Request(request) => framework.request(step, request),
        Event::RequestClosed(request) => framework.request_closed(step, request),
        Event::Rejected(rejections) => framework.rejected(step, rejections),
        Event::Reconciled(end) => framework.reconciled(step, end),
        Event::Holdings(holdings) => framework.holdings(step, holdings),
        Event::Explained(explained) => framework.explained(step, explained),
    }
}

/// Generated from `wit/`; authors use the re-exports above.
#[doc(hidden)]
#[allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    reason = "generated by wit-bindgen: lifting and lowering values is unsafe, and the docs are in wit/"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/framework"],
        world: "proffer:framework/framework",
        runtime_path: "::proffer_sdk::rt",
        default_bindings_module: "::proffer_sdk::framework::bindings",
        export_macro_name: "export_framework_guest",
        pub_export_macro: true,
        additional_derives: [PartialEq],
        generate_all,
    });
}

/// Makes the component export this [`Framework`]. Once per crate; natively it
/// exports nothing.
#[macro_export]
macro_rules! export_framework {
    ($framework:ty) => {
        // Natively it exports nothing, but the type is checked and counts as used.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::framework::guest::check::<$framework>;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<::std::option::Option<$framework>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            struct Guest;

            impl $crate::framework::guest::Exports for Guest {
                fn start(
                    context: $crate::framework::Context,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    INSTANCE.with_borrow_mut(|slot| $crate::framework::guest::start(slot, &context))
                }

                fn step(
                    batch: $crate::framework::Batch,
                ) -> ::std::result::Result<$crate::framework::Answer, ::std::string::String>
                {
                    INSTANCE.with_borrow_mut(|slot| $crate::framework::guest::step(slot, batch))
                }
            }

            $crate::framework::bindings::export_framework_guest!(
                Guest with_types_in $crate::framework::bindings
            );
        };
    };
}
