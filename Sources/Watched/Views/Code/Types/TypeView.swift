import KernelInfo
public import LinuxKernel
public import Views

/// Types of the kernel as it lays them out, as pahole(1) shows them.
public struct TypeView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(isArgument: true, help: "The types: task_struct, 'enum pid_type', pid_t.") public var names: [String] =
      []
    public init() {}
    public func problem() -> String? { names.isEmpty ? "<names> is missing: which types?" : nil }
  }

  public struct Row: Sendable {
    public var name: String
    public var declaration: String
    /// Bytes.
    public var size: Int
    /// In C, with offsets and sizes in comments.
    public var definition: String
    fileprivate var members: ViewValue
    fileprivate var enumerators: ViewValue
  }

  public static let name = "types"
  public static let group = ViewGroup.expert
  public static let summary = "Shows types of the kernel as it lays them out: structs, unions, enums, typedefs."
  public static let discussion = """
    As pahole does, from the type information that the kernel and its modules carry: behind each member stand its offset \
    and size in bytes (for a bit field the word's offset, the bit, and the word's size), between them the holes. In JSON \
    offsets and sizes are in bytes, bit_offset and bit_size in bits.
    """

  public static func columns(_ options: Options) -> [ViewColumn<Row>] {
    [
      ViewColumn("NAME", "name", \.name).identity, ViewColumn("DECLARATION", "declaration", \.declaration),
      ViewColumn("SIZE", "size", in: .bytes, \.size),
      ViewColumn(json: "members", \.members).with("name", "type").with("offset", "size", in: .bytes)
        .with("bit_offset", "bit_size", "members"),
      ViewColumn(json: "enumerators", \.enumerators).with("*"),
    ]
  }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] {
    [[("names", "task_struct")]]
  }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row> {
    var rows: [Row] = []
    for name in options.names {
      let type = try kernel.type(name)
      rows.append(
        try KernelError.reading("the type '\(name)'") {
          let parts = try parts(of: type, base: 0, depth: 0)
          func part(_ key: String) -> ViewValue { parts.first { $0.key == key }?.value ?? .absent }
          return Row(
            name: name, declaration: type.declaration(), size: type.size, definition: try type.definition(),
            members: part("members"), enumerators: part("enumerators"))
        })
    }
    return ViewRows(rows)
  }

  public static func text(_ rows: [Row], _ options: Options) -> String? {
    // Line by line, as the names come from the watched memory.
    rows.map(\.definition).joined(separator: "\n").split(separator: "\n", omittingEmptySubsequences: false).dropLast()
      .map {
        Array($0.utf8).printable + "\n"
      }.joined()
  }

  private static func parts(of type: KernelType, base: Int, depth: Int) throws -> [ViewValue.Member] {
    switch type.kind {
    case .enumeration:
      return [.init("enumerators", ViewValue.object(try type.enumerators().map { .init($0.name, $0.value) }))]
    case .structure, .union:
      let members = try type.members().map { member -> ViewValue in
        var object: [ViewValue.Member] = [
          .init("name", member.name), .init("type", member.type.declaration()),
          .init("offset", base + member.offset), .init("size", member.type.size),
        ]
        if member.bitSize > 0 {
          object += [.init("bit_offset", base * 8 + member.bitOffset), .init("bit_size", member.bitSize)]
        }
        if member.name.isEmpty, depth < 16 {
          object += try parts(of: member.type, base: base + member.offset, depth: depth + 1)
        }
        return .object(object)
      }
      return [.init("members", ViewValue.list(members))]
    default: return []
    }
  }
}
