package import Binding
package import KernelInfo

/// Where a module's parts of memory are told: where each starts, how far it goes, and where the code in it ends, which
/// is at its start.
///
/// Code comes first.
///
/// Source: include/linux/module.h, `struct module_memory` since 6.4 (ac3b43283923), `struct module_layout` before.
package final class ModuleMemory: DeclaredField, @unchecked Sendable {
  // Bound once, as a Field is.
  package typealias Place = FieldSelection.Field
  package private(set) var parts: [(base: Place, size: Place, code: Place?)] = []

  package init() { declare() }

  @usableFromInline
  package func bind(
    to module: StructLayout, _ types: TypeTable, in selection: inout FieldSelection
  ) throws(KernelInfoError) {
    if module.hasField("core_layout") {
      for layout in ["core_layout", "init_layout", "data_layout"] where module.hasField(layout) {
        parts.append(
          (
            try selection.want("\(layout).base"), try selection.want("\(layout).size"),
            try selection.want("\(layout).text_size")
          ))
      }
    } else {
      // An element for each kind of memory (enum mod_mem_type).
      let array = try module.field("mem")
      let element = try types.structure("module_memory")
      let (base, size) = (try element.field("base").offset, try element.field("size"))
      for index in 0..<min(array.elementCount ?? 0, 16) {
        let start = array.offset + index * array.elementSize
        parts.append(
          (
            selection.want(offset: start + base, size: 8), selection.want(offset: start + size.offset, size: size.size),
            nil
          ))
      }
    }
  }
}
