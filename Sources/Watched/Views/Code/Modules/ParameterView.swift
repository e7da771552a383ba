import Binding
package import LinuxKernel
package import Memory
package import Views

/// What the kernel and its modules were told, as /sys/module/*/parameters shows it.
///
/// Not a part of `lsmod`: most of them belong to code that is no module. Source: kernel/params.c.
package struct ParameterView: DeclaredView {
  package typealias Row = (module: [UInt8], name: [UInt8], type: String, value: ViewValue)
  package static let name = "parameters", group = ViewGroup.integrity
  package static let summary = "Lists the parameters of the kernel and of its modules, and their values."
  package static let discussion = "Those in /sys/module. VALUE is empty for arrays, and where TYPE is a driver's own."

  private struct Parameter: KernelShape {
    static let type = "kernel_param"
    let name = Field<VirtualAddress>("name"), operations = Field<VirtualAddress>("ops")
    let mode = Field<UInt64>("perm"), value = Field<VirtualAddress>("arg")
  }

  package static let columns: [ViewColumn<Row>] = [
    ViewColumn("MODULE", "module", \.module).identity, ViewColumn("NAME", "name", \.name).identity,
    ViewColumn("TYPE", "type", \.type), ViewColumn("VALUE", "value", \.value),
  ]

  package static func read(_ kernel: Kernel, _ faults: inout [MemoryFault]) throws -> [Row] {
    let table = try kernel.table(of: Parameter.self, section: "___param", modules: "kp", "num_kp", &faults)
    let shown = try table.structs.whole(&faults).filter { try $0.mode != 0 }
    let names = kernel.addressSpace.strings(at: try shown.map { try $0.name })
    let getters = try kernel.pointers("get", of: "kernel_param_ops", at: shown.map { try $0.operations })
    let (map, text) = (try kernel.symbolMap(), try kernel.offset(of: "string", in: "kparam_string"))
    let types = getters.map { String((map.place(of: $0)?.name ?? "").trimmingPrefix("param_get_")) }
    let places = try zip(shown, types).map { (try $0.value + ($1 == "string" ? text : 0), ValueForm(named: $1)) }
    return shown.indices.with(kernel.addressSpace.values(places), &faults).with(names, &faults).map { item, name in
      // The kernel's own bear the name of the module that they would belong to.
      let parts = name.split(separator: UInt8(ascii: "."), maxSplits: 1).map { Array($0) }
      let module = table.modules[shown[item.0].index] ?? parts.dropLast().first ?? Array("kernel".utf8)
      return (module, parts.last ?? [], types[item.0], item.1)
    }
  }
}
