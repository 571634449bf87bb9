//! MapReduce as a framework component.
