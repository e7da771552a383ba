package import Binding
package import KernelInfo

/// Where a module's parts of memory are told: where each starts, how far it goes, and where the code in it ends, which is
/// at its start. Code comes first.
///
/// Source: include/linux/module.h, `struct module_memory` since 6.4, `struct module_layout` before.
package struct ModuleMemory: Sendable {
  package typealias Field = FieldSelection.Field
  package let parts: [(base: Field, size: Field, code: Field?)]

  /// Adds what it needs to `fields` of `module`.
  package init(_ module: StructLayout, types: TypeTable, fields: inout FieldSelection) throws(KernelInfoError) {
    var parts: [(base: Field, size: Field, code: Field?)] = []
    if module.hasField("core_layout") {
      for layout in ["core_layout", "init_layout", "data_layout"] where module.hasField(layout) {
        parts.append(
          (
            try fields.want("\(layout).base"), try fields.want("\(layout).size"), try fields.want("\(layout).text_size")
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
          (fields.want(offset: start + base, size: 8), fields.want(offset: start + size.offset, size: size.size), nil))
      }
    }
    self.parts = parts
  }
}
