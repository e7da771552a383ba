import Foundation
import Output
import Testing

struct JSONTests {
  private func text(_ value: JSON) -> String {
    var output: [UInt8] = []
    value.write(to: &output)
    return String(decoding: output, as: UTF8.self)
  }

  @Test(arguments: [
    ("", "\"\""), ("plain text, all of it", "\"plain text, all of it\""), ("a\"b\\c", "\"a\\\"b\\\\c\""),
    ("\n\t\u{1b}[0m\u{7f}\u{0}", "\"\\n\\t\\u001b[0m\\u007f\\u0000\""), ("größe 🐧", "\"größe 🐧\""), ("\"", "\"\\\"\""),
  ]) func textIsEscaped(_ text: String, _ expected: String) {
    #expect(self.text(.string(text)) == expected)
  }

  /// Stray bytes at the start, at the end, between scalars, and a scalar that is cut off.
  @Test(
    arguments: [
      ([0xff], "\"\\udcff\""), ([0x61, 0x80, 0x62], "\"a\\udc80b\""), ([0xe2, 0x82], "\"\\udce2\\udc82\""),
      ([0xc3, 0xb6, 0xff, 0xc3, 0xb6], "\"ö\\udcffö\""), ([0xe2, 0x82, 0x22], "\"\\udce2\\udc82\\\"\""),
    ] as [([UInt8], String)]) func strayBytesStay(_ bytes: [UInt8], _ expected: String)
  {
    #expect(text(.bytes(bytes)) == expected)
  }

  @Test func numbersAreDecimal() {
    let values: [JSON] = [
      .signed(.min), .signed(.max), .signed(0), .signed(-7), .unsigned(.max), .unsigned(10), .number(0.5),
      .number(.infinity), .bool(true), .bool(false), .null,
    ]
    #expect(
      text(.array(values))
        == "[-9223372036854775808, 9223372036854775807, 0, -7, 18446744073709551615, 10, 0.5, null, true, false, null]")
    #expect(text(.object([("a", .array([])), ("b\"", .null)])) == "{\"a\": [], \"b\\\"\": null}")
  }

  /// Whatever bytes there are, a reader that knows surrogateescape gets them back.
  @Test func allBytesComeBack() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<500 {
      let alphabet: [UInt8] = [0x22, 0x5c, 0x0a, 0x61, 0x7e, 0x7f, 0x80, 0xc3, 0xb6, 0xe2, 0x82, 0xac, 0xf0, 0xff]
      let bytes = (0..<Int.random(in: 0...40)).map { _ in
        Bool.random(using: &generator) ? alphabet.randomElement(using: &generator) ?? 0 : UInt8.random(in: 0...255)
        // What the private-use characters below begin with would be taken for one of them.
      }.filter { $0 != 0xee }
      // JSONSerialization refuses lone surrogates; a private-use character stands for each.
      let escaped = text(.array([.bytes(bytes)])).replacingOccurrences(of: "\\udc", with: "\\ue0")
      let read = try #require(try JSONSerialization.jsonObject(with: Data(escaped.utf8)) as? [String])
      let back = read[0].unicodeScalars.flatMap { scalar -> [UInt8] in
        (0xe080...0xe0ff).contains(scalar.value) ? [UInt8(scalar.value & 0xff)] : Array(String(scalar).utf8)
      }
      #expect(back == bytes)
    }
  }
}
