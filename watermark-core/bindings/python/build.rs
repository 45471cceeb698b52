//! Linker arguments of an extension module; none on Linux.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
