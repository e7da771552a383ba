/// Writes BTF as pahole does, and also wrongly where a test wants that.
package struct BTFWriter {
  package struct Member {
    package var name: String
    package var type: Int
    /// In bits.
    package var offset: Int
    /// In bits, 0 for what is no bit field.
    package var size: Int

    package init(name: String, type: Int, offset: Int, size: Int = 0) {
      (self.name, self.type, self.offset, self.size) = (name, type, offset, size)
    }
  }

  package private(set) var types = Bytes()
  package private(set) var names: [UInt8] = [0]
  package private(set) var count = 0
  /// How many bytes of names lie before these.
  private var nameStart = 0

  package init() {}

  /// Writes the types of a module, which count on from those of its kernel.
  package init(behind kernel: BTFWriter) {
    names = []
    (count, nameStart) = (kernel.count, kernel.names.count)
  }

  package mutating func name(_ text: String) -> UInt32 {
    if text.isEmpty { return 0 }
    let offset = UInt32(nameStart + names.count)
    names += Array(text.utf8) + [0]
    return offset
  }

  /// Any record; the others are made of it.
  @discardableResult
  package mutating func record(
    _ kind: UInt32, nameOffset: UInt32, count: Int = 0, flag: Bool = false, sizeOrType: Int, words: [UInt32] = []
  ) -> Int {
    types.append(nameOffset)
    types.append(UInt32(count) | kind << 24 | (flag ? 1 << 31 : 0))
    types.append(UInt32(sizeOrType))
    for word in words { types.append(word) }
    self.count += 1
    return self.count
  }

  package mutating func integer(_ text: String, size: Int, signed: Bool) -> Int {
    record(1, nameOffset: name(text), sizeOrType: size, words: [UInt32(size * 8) | (signed ? 1 << 24 : 0)])
  }
  package mutating func pointer(to type: Int) -> Int { record(2, nameOffset: 0, sizeOrType: type) }
  package mutating func array(of type: Int, count: Int) -> Int {
    record(3, nameOffset: 0, sizeOrType: 0, words: [UInt32(type), UInt32(type), UInt32(count)])
  }
  package mutating func structure(_ text: String, size: Int, union: Bool = false, _ members: [Member]) -> Int {
    let flag = members.contains { $0.size > 0 }
    let words = members.flatMap { [name($0.name), UInt32($0.type), UInt32($0.offset | $0.size << 24)] }
    return record(
      union ? 5 : 4, nameOffset: name(text), count: members.count, flag: flag, sizeOrType: size, words: words)
  }
  package mutating func typedef(_ text: String, _ type: Int) -> Int {
    record(8, nameOffset: name(text), sizeOrType: type)
  }
  package mutating func const(_ type: Int) -> Int { record(10, nameOffset: 0, sizeOrType: type) }
  package mutating func enumeration(_ text: String, signed: Bool = false, _ values: [(String, Int32)]) -> Int {
    let words = values.flatMap { [name($0.0), UInt32(bitPattern: $0.1)] }
    return record(6, nameOffset: name(text), count: values.count, flag: signed, sizeOrType: 4, words: words)
  }
  package mutating func wideEnumeration(_ values: [(String, Int64)]) -> Int {
    let words = values.flatMap {
      [name($0.0), UInt32(truncatingIfNeeded: $0.1), UInt32(truncatingIfNeeded: $0.1 >> 32)]
    }
    return record(19, nameOffset: 0, count: values.count, sizeOrType: 8, words: words)
  }

  /// The whole: header, types, names.
  package var bytes: [UInt8] {
    var result = Bytes()
    result.append(UInt16(0xEB9F))
    result.append(UInt8(1))
    result.append(UInt8(0))
    result.append(UInt32(24))
    result.append(UInt32(0))
    result.append(UInt32(types.all.count))
    result.append(UInt32(types.all.count))
    result.append(UInt32(names.count))
    return result.all + types.all + names
  }
}
