/// What stands behind the question mark of an address, as forms write it.
struct Query {
  /// In their order.
  let items: [(name: String, value: String)]

  init(_ text: String?) {
    items = (text ?? "").utf8.split(separator: UInt8(ascii: "&")).prefix(200).map { item in
      let parts = item.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      return (Self.decoded(parts[0]), parts.count > 1 ? Self.decoded(parts[1]) : "")
    }
  }

  /// The first value of a name; nil where it is not there.
  subscript(name: String) -> String? { items.first { $0.name == name }?.value }

  private static func decoded(_ bytes: some Collection<UInt8>) -> String {
    let bytes = Array(bytes)
    var plain: [UInt8] = []
    var index = 0
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count,
        let byte = UInt8(String(decoding: bytes[(index + 1)...(index + 2)], as: UTF8.self), radix: 16)
      {
        plain.append(byte)
        index += 3
      } else {
        plain.append(bytes[index] == UInt8(ascii: "+") ? UInt8(ascii: " ") : bytes[index])
        index += 1
      }
    }
    return String(decoding: plain, as: UTF8.self)
  }
}
