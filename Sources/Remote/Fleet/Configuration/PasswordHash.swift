import Crypto
import CryptoExtras
import FoundationEssentials

/// What is kept of a password: `scrypt$N$r$p$SALT$KEY`, salt and key in Base64.
public struct PasswordHash: Hashable, Sendable, CustomStringConvertible {
  private let rounds: Int
  private let blockSize: Int
  private let parallelism: Int
  private let salt: [UInt8]
  private let key: [UInt8]

  /// Takes apart what ``description`` gave; nil for what is none, or asks for more than 256 MiB of memory.
  public init?(_ text: String) {
    let parts = text.split(separator: "$", omittingEmptySubsequences: false)
    guard parts.count == 6, parts[0] == "scrypt", let rounds = Int(parts[1]), let blockSize = Int(parts[2]),
      let parallelism = Int(parts[3]), rounds >= 2, rounds & (rounds - 1) == 0, (1...32).contains(blockSize),
      (1...16).contains(parallelism), rounds <= 1 << 20, rounds * blockSize * 128 <= 256 << 20,
      let salt = Data(base64Encoded: String(parts[4])), let key = Data(base64Encoded: String(parts[5])),
      salt.count >= 8, (16...64).contains(key.count)
    else { return nil }
    self.rounds = rounds
    self.blockSize = blockSize
    self.parallelism = parallelism
    self.salt = Array(salt)
    self.key = Array(key)
  }

  /// Hashes a password under a new salt.
  ///
  /// Cost: a tenth of a second and 32 MiB, on purpose.
  public init?(hashing password: String) { self.init(hashing: password, rounds: 1 << 15) }

  init?(hashing password: String, rounds: Int) {
    var generator = SystemRandomNumberGenerator()
    self.rounds = rounds
    blockSize = 8
    parallelism = 1
    salt = (0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) }
    guard
      let key = Self.derive(password, salt: salt, count: 32, rounds: rounds, blockSize: 8, parallelism: 1)
    else { return nil }
    self.key = key
  }

  /// Whether it is this password.
  ///
  /// Cost: as hashing it. Takes the same time wherever the two differ.
  public func matches(_ password: String) -> Bool {
    guard
      let other = Self.derive(
        password, salt: salt, count: key.count, rounds: rounds, blockSize: blockSize, parallelism: parallelism)
    else { return false }
    return SecretWords.areEqual(key, other)
  }

  private static func derive(
    _ password: String, salt: [UInt8], count: Int, rounds: Int, blockSize: Int, parallelism: Int
  ) -> [UInt8]? {
    let key = try? KDF.Scrypt.deriveKey(
      from: Array(password.utf8), salt: salt, outputByteCount: count, rounds: rounds, blockSize: blockSize,
      parallelism: parallelism)
    return key?.withUnsafeBytes { Array($0) }
  }

  public var description: String {
    "scrypt$\(rounds)$\(blockSize)$\(parallelism)$\(Data(salt).base64EncodedString())$\(Data(key).base64EncodedString())"
  }
}
