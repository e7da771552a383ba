/// Little-endian bytes, for tables written in tests.
package struct Bytes {
  package var all: [UInt8] = []

  package init() {}

  package mutating func append<T: FixedWidthInteger>(_ value: T) {
    for byte in 0..<T.bitWidth / 8 { all.append(UInt8(truncatingIfNeeded: value >> T(8 * byte))) }
  }

  package mutating func append(_ text: String) { all += Array(text.utf8) }

  package mutating func pad(to alignment: Int) { while all.count % alignment != 0 { all.append(0) } }
}

package func bytes<T: FixedWidthInteger>(_ values: T...) -> [UInt8] {
  var result = Bytes()
  for value in values { result.append(value) }
  return result.all
}
