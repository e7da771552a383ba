import CSealCases
import Testing

/// Every published vector, with what all cases of an operation must keep: see cases.c.
struct VectorTests {
  @Test("the published vectors", arguments: try SealVector.all())
  func vector(_ vector: SealVector) throws {
    // A million steps take a minute: `scripts/seal vectors 1000000` does them.
    guard vector.iterations <= 1000 else { return }
    let capacity = vector.input.count + 1024
    var output = [UInt8](repeating: 0, count: capacity)
    var scratch = output
    var length: UInt64 = 0
    let result = grass_seal_case(
      vector.operation, vector.input, UInt64(vector.input.count), &output, &scratch, UInt64(capacity), &length)
    guard let expected = vector.expected else {
      #expect(result == Int32(GRASS_CASE_REFUSED.rawValue))
      return
    }
    try #require(result == Int32(GRASS_CASE_DONE.rawValue))
    // Of one HMAC the vector gives the start only.
    if vector.operation != GRASS_CASE_HMAC.rawValue { #expect(Int(length) == expected.count) }
    #expect(Array(output.prefix(expected.count)) == expected)
  }

  @Test("there are vectors of each operation")
  func complete() throws {
    let operations = Set(try SealVector.all().map(\.operation))
    #expect(operations == Set(0..<GRASS_CASE_OPERATIONS.rawValue))
  }
}
