public import LinuxKernel
import Memory
public import Views

/// The symbols of the kernel and its modules: by name, by address, or all of them, as /proc/kallsyms has them.
public struct SymbolView: KernelView {
  public struct Options: ViewOptions {
    @ViewOption(
      isArgument: true, selects: true, help: "Symbols, symbols with an offset (schedule+0x10), or addresses.")
    public var symbols: [String] = []
    public init() {}
  }

  public static let name = "sym"
  public static let group = ViewGroup.expert
  public static let summary = "Shows symbols: their addresses by name, or what lies at an address."
  public static let discussion = """
    A name prints its address, type and size; an address (0xffffffff81000010) prints the symbol that it belongs to and \
    the offset in it, as the kernel writes it: symbol+offset/size, and the module in brackets. Without arguments all \
    symbols are printed, as /proc/kallsyms has them.
    """

  public static func columns(_ options: Options) -> [ViewColumn<SymbolPlace>] {
    [
      ViewColumn("ADDRESS", "address", in: .address, \.address).identity, ViewColumn("TYPE", "type", \.type),
      ViewColumn("NAME", "name", \.name).identity, ViewColumn("SIZE", "size", in: .bytes, \.size),
      ViewColumn("OFFSET", "offset", in: .bytes, \.offset), ViewColumn("MODULE", "module", \.module),
    ]
  }

  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] { [[("symbols", "schedule")]] }

  public static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<SymbolPlace> {
    let map = try kernel.symbolMap()
    var found = ViewRows(options.symbols.isEmpty ? map.all : [], faults: map.faults)
    for text in options.symbols {
      let named = map.places(named: text)
      if !named.isEmpty {
        found.rows += named
      } else if let place = map.address(text).flatMap(map.place) {
        found.rows.append(place)
      } else {
        found.shortcomings.append(
          "\(Array(text.utf8).printable) is no symbol of this kernel, and no address that one belongs to")
      }
    }
    return found
  }

  /// Lines as /proc/kallsyms has them; of places that were asked for, as the kernel prints them.
  public static func text(_ rows: [SymbolPlace], _ options: Options) -> String? {
    var text: [UInt8] = []
    for place in rows {
      let address = options.symbols.isEmpty ? place.address : place.address + Int(truncatingIfNeeded: place.offset)
      let digits = String(address.rawValue, radix: 16)
      let name =
        options.symbols.isEmpty ? place.name + (place.module.map { "\t[\($0)]" } ?? "") : place.description
      text += String(repeating: "0", count: 16 - digits.count).utf8
      text += "\(digits) \(place.type) ".utf8
      text += Array(name.utf8).printable.utf8
      text.append(UInt8(ascii: "\n"))
    }
    return String(decoding: text, as: UTF8.self)
  }
}
