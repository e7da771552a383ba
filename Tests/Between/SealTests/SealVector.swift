import CSeal
import CSealCases
import Foundation
import Testing

/// One published vector: a line of vectors.txt, or one of noise-vectors.json.
struct SealVector: Sendable, CustomTestStringConvertible {
  let name: String
  let operation: UInt32
  /// The fields, each its length in four bytes and its bytes.
  let input: [UInt8]
  /// Null where the case has to be refused.
  let expected: [UInt8]?

  var testDescription: String { name }

  /// How often X25519 is iterated; 0 in other vectors.
  var iterations: UInt32 {
    guard operation == GRASS_CASE_X25519_ITERATED.rawValue, input.count == 8 else { return 0 }
    return input[4...].reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }

  enum Malformed: Error {
    case resource(String)
    case operation(String)
    case field(String)
  }

  static func all() throws -> [SealVector] { try plain() + noise() }

  private static func data(_ name: String, _ kind: String) throws -> Data {
    guard let url = Bundle.module.url(forResource: name, withExtension: kind, subdirectory: "Resources") else {
      throw Malformed.resource("\(name).\(kind)")
    }
    return try Data(contentsOf: url)
  }

  /// Hexadecimal; "-" for nothing; "61*1000000" for a byte that often.
  private static func bytes(_ text: some StringProtocol) throws -> [UInt8] {
    if text == "-" { return [] }
    let parts = text.split(separator: "*")
    guard let digits = parts.first.map({ Array($0) }), digits.count % 2 == 0 else {
      throw Malformed.field(String(text))
    }
    let bytes = try stride(from: 0, to: digits.count, by: 2).map { index in
      guard let byte = UInt8(String(digits[index...index + 1]), radix: 16) else { throw Malformed.field(String(text)) }
      return byte
    }
    guard parts.count == 2 else { return bytes }
    guard let count = Int(parts[1]), let byte = bytes.first else { throw Malformed.field(String(text)) }
    return [UInt8](repeating: byte, count: count)
  }

  private static func field(_ bytes: [UInt8]) -> [UInt8] {
    withUnsafeBytes(of: UInt32(bytes.count).littleEndian, Array.init) + bytes
  }

  private static func plain() throws -> [SealVector] {
    let text = String(decoding: try data("vectors", "txt"), as: UTF8.self)
    let operations = (0..<GRASS_CASE_OPERATIONS.rawValue).map { grass_case_name($0).map { String(cString: $0) } }
    var source = ""
    var vectors: [SealVector] = []
    for line in text.split(separator: "\n") {
      if line.hasPrefix("#") {
        source = String(line.dropFirst(2))
        continue
      }
      let words = line.split(separator: " ")
      guard let operation = operations.firstIndex(of: String(words[0])), let equals = words.firstIndex(of: "=") else {
        throw Malformed.operation(String(line))
      }
      let result = words[words.index(after: equals)]
      vectors.append(
        SealVector(
          name: "\(words[0]), \(vectors.count): \(source)", operation: UInt32(operation),
          input: try words[1..<equals].flatMap { field(try bytes($0)) },
          expected: result == "refused" ? nil : try bytes(result)))
    }
    return vectors
  }

  private struct NoiseFile: Decodable {
    let vectors: [NoiseVector]
  }

  private struct NoiseVector: Decodable {
    struct Message: Decodable {
      let payload: String
      let ciphertext: String
    }
    let protocolName: String
    let initPrologue: String
    let initStatic: String
    let initEphemeral: String
    let initRemoteStatic: String?
    let initPsks: [String]?
    let respPrologue: String
    let respStatic: String
    let respEphemeral: String
    let handshakeHash: String
    let messages: [Message]
  }

  private static func noise() throws -> [SealVector] {
    let patterns = [
      "Noise_XX_25519_ChaChaPoly_SHA256": GRASS_NOISE_XX, "Noise_IK_25519_ChaChaPoly_SHA256": GRASS_NOISE_IK,
      "Noise_XXpsk3_25519_ChaChaPoly_SHA256": GRASS_NOISE_XXPSK3,
      "Noise_IKpsk2_25519_ChaChaPoly_SHA256": GRASS_NOISE_IKPSK2,
    ]
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let file = try decoder.decode(NoiseFile.self, from: data("noise-vectors", "json"))
    return try file.vectors.map { vector in
      guard let pattern = patterns[vector.protocolName] else { throw Malformed.operation(vector.protocolName) }
      let fields =
        [
          vector.initPrologue, vector.initStatic, vector.initEphemeral, vector.respPrologue, vector.respStatic,
          vector.respEphemeral, vector.initRemoteStatic ?? "-", vector.initPsks?.first ?? "-",
        ] + vector.messages.map(\.payload)
      return SealVector(
        name: vector.protocolName, operation: GRASS_CASE_NOISE.rawValue,
        input: field(withUnsafeBytes(of: pattern.rawValue.littleEndian, Array.init))
          + (try fields.flatMap { field(try bytes($0)) }),
        expected: try bytes(vector.handshakeHash) + vector.messages.flatMap { try bytes($0.ciphertext) })
    }
  }
}
