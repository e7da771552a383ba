import Memory
public import Region

/// What the records of one of the modules that come with GRASS mean.
public protocol ModuleView: Sendable {
  /// The module's name.
  static var module: String { get }

  /// Takes a run's records apart, in whatever order its lanes left them. Nil where they are not those of this version's
  /// module.
  init?(_ result: MonitorResult)
}

extension ModuleView {
  /// All records of a kind and a size, each made by `make`; nil where one has another size, or does not hold together.
  static func records<Item>(
    _ result: MonitorResult, kind: Int, size: ClosedRange<Int>,
    _ make: (borrowing ByteReader) throws(MemoryFault) -> Item
  ) -> [Item]? {
    var items: [Item] = []
    for record in result.records where record.kind == kind {
      let bytes = Array(record.bytes)
      guard size.contains(bytes.count), let item = try? make(ByteReader(bytes.span.bytes)) else { return nil }
      items.append(item)
    }
    return items
  }

  /// The same for records of one size.
  static func records<Item>(
    _ result: MonitorResult, kind: Int, size: Int, _ make: (borrowing ByteReader) throws(MemoryFault) -> Item
  ) -> [Item]? {
    records(result, kind: kind, size: size...size, make)
  }
}
