//! Rust bindings of both contracts, generated from `wit/`. Nothing outside this crate sees them.

/// The framework's world.
pub(crate) mod framework {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/framework"],
        world: "proffer:framework/framework",
        imports: { default: trappable },
        exports: { default: async },
    });
}

/// The policy's world. What both have in common is generated once.
pub(crate) mod policy {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/policy"],
        world: "proffer:policy/policy",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "proffer:types/values@0.1.0-dev.1": super::framework::proffer::types::values,
            "proffer:types/log@0.1.0-dev.1": super::framework::proffer::types::log,
        },
    });
}
