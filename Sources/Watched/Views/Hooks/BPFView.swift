public import LinuxKernel
public import Views

/// The BPF programs and maps.
public struct BPFView: KernelView {
  public enum Row: Sendable {
    case program(BPFProgram)
    case map(BPFMap)
  }

  public static let name = "bpf"
  public static let group = ViewGroup.integrity
  public static let canBeEmpty = true
  public static let summary = "Lists the BPF programs and maps that are loaded."
  public static let discussion = "TYPE is the number of enum bpf_prog_type or bpf_map_type (`grassctl types bpf_prog`)."

  public static func columns(_ options: NoOptions) -> [ViewColumn<Row>] {
    func program<Value: ViewRepresentable>(_ value: @escaping @Sendable (BPFProgram) -> Value)
      -> @Sendable (Row) ->
      ViewValue
    {
      { if case .program(let program) = $0 { value(program).viewValue } else { .absent } }
    }
    func map<Value: ViewRepresentable>(_ value: @escaping @Sendable (BPFMap) -> Value) -> @Sendable (Row) -> ViewValue {
      { if case .map(let map) = $0 { value(map).viewValue } else { .absent } }
    }
    return [
      ViewColumn("KIND", "kind") { if case .program = $0 { "prog" } else { "map" } }.identity,
      ViewColumn("ID", "id") { row -> UInt32 in
        switch row {
        case .program(let program): program.id
        case .map(let map): map.id
        }
      }.identity,
      ViewColumn("TYPE", "type") { row -> UInt32 in
        switch row {
        case .program(let program): program.type
        case .map(let map): map.type
        }
      },
      ViewColumn("NAME", "name") { row -> [UInt8] in
        switch row {
        case .program(let program): program.name
        case .map(let map): map.name
        }
      }.identity,
      ViewColumn("TAG", "tag", program { $0.tag.map { TextPiece.hex($0) }.joined() }),
      ViewColumn("SIZE") { row in
        switch row {
        case .program(let program): "\(program.instructions) instructions"
        case .map(let map): "\(map.mostEntries) of \(map.keySize)+\(map.valueSize) bytes"
        }
      },
      ViewColumn(json: "instructions", program(\.instructions)),
      ViewColumn(json: "load_time_ns", in: .nanoseconds, program(\.loadTime)),
      ViewColumn(json: "function", in: .address, program(\.function)),
      ViewColumn(json: "bpf_prog", in: .address, program(\.address)),
      ViewColumn(json: "key_size", in: .bytes, map(\.keySize)),
      ViewColumn(json: "value_size", in: .bytes, map(\.valueSize)),
      ViewColumn(json: "max_entries", map(\.mostEntries)), ViewColumn(json: "bpf_map", in: .address, map(\.address)),
    ]
  }

  public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<Row> {
    let table = try kernel.bpf()
    return ViewRows(table.programs.map { .program($0) } + table.maps.map { .map($0) }, faults: table.faults)
  }
}
