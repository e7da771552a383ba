/// Appends little-endian numbers and text to bytes.
struct ByteWriter {
  var bytes: [UInt8] = []

  mutating func append<T: FixedWidthInteger>(_ numbers: T...) {
    for number in numbers { withUnsafeBytes(of: number.littleEndian) { bytes += $0 } }
  }

  /// Zeros up to a multiple of `alignment`.
  mutating func align(_ alignment: Int) {
    bytes += [UInt8](repeating: 0, count: (alignment - bytes.count % alignment) % alignment)
  }

  /// An ELF note: `name` with its zero, and `text`, each padded to four bytes.
  mutating func note(_ name: String, type: UInt32, _ text: [UInt8]) {
    append(UInt32(name.utf8.count + 1), UInt32(text.count), type)
    bytes += Array(name.utf8) + [0]
    align(4)
    bytes += text
    align(4)
  }
}
