import Keys
import Scratch
import Testing

struct CertificateTests {
  private let certifier = CertifierIdentity.generate()
  private let device = Identity.generate().publicKey

  private func certificate(name: String = "db1.example.org:7117") throws -> Certificate {
    try Certificate(of: device, name: name, notBefore: 1000, notAfter: 2000, by: certifier)
  }

  @Test("a certificate's bytes are as they are told, parse to it again, and prove it in its time only")
  func proof() throws {
    let certificate = try certificate()
    let bytes = certificate.bytes
    #expect(bytes.count == Certificate.size && Certificate.size <= 256)
    // 'GRC', version 1, 20 bytes of name, 1000, 2000.
    #expect(
      bytes.prefix(24) == [0x47, 0x52, 0x43, 1, 20, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0, 0xd0, 7, 0, 0, 0, 0, 0, 0])
    #expect(Array(bytes[24..<56]) == device.bytes)
    #expect(Array(bytes[56..<88]) == certifier.publicKey.bytes)
    #expect(Array(bytes[88..<108]) == Array("db1.example.org:7117".utf8))
    #expect(bytes[108..<152].allSatisfy { $0 == 0 })
    #expect(try Certificate(bytes: bytes) == certificate)
    #expect(try Certificate(parsing: certificate.base64) == certificate)
    #expect(
      try Certificate(parsing: " \(certificate.base64.prefix(70))\n\(certificate.base64.dropFirst(70))\n")
        == certificate)

    for time in [1000, 1500, 1999] as [UInt64] { try certificate.verify(by: certifier.publicKey, at: time) }
    func fault(_ key: CertifierKey, _ time: UInt64) -> KeyError.Reason? {
      do throws(KeyError) {
        try certificate.verify(by: key, at: time)
        return nil
      } catch {
        return error.reason
      }
    }
    #expect(fault(certifier.publicKey, 999) == .certificate(.notYet(1000)))
    #expect(fault(certifier.publicKey, 2000) == .certificate(.expired(2000)))
    #expect(fault(certifier.publicKey, .max) == .certificate(.expired(2000)))
    let other = CertifierIdentity.generate().publicKey
    #expect(fault(other, 1500) == .certificate(.otherCertifier(certifier.publicKey.fingerprint)))
  }

  @Test("a certificate that was altered at any bit is none, or proves nothing")
  func altered() throws {
    let bytes = try certificate().bytes
    for index in bytes.indices {
      for bit in 0..<8 {
        var forged = bytes
        forged[index] ^= 1 << bit
        #expect(throws: KeyError.self, "byte \(index), bit \(bit)") {
          try Certificate(bytes: forged).verify(by: certifier.publicKey, at: 1500)
        }
      }
    }
    for count in 0..<bytes.count {
      #expect(throws: KeyError.self) { try Certificate(bytes: bytes.prefix(count)) }
    }
    #expect(throws: KeyError.self) { try Certificate(bytes: bytes + [0]) }
    #expect(throws: KeyError.self) { try Certificate(bytes: [UInt8](repeating: 0x47, count: 1 << 20)) }
  }

  @Test("nobody else can sign in the certifier's name")
  func otherSigner() throws {
    let impostor = CertifierIdentity.generate()
    var bytes = try Certificate(of: device, name: "db1", notBefore: 1000, notAfter: 2000, by: impostor).bytes
    bytes.replaceSubrange(56..<88, with: certifier.publicKey.bytes)
    let forged = try Certificate(bytes: bytes)
    #expect(throws: KeyError("certificate of \"db1\"", .certificate(.badSignature))) {
      try forged.verify(by: certifier.publicKey, at: 1500)
    }
  }

  @Test("names and times that cannot be are refused")
  func refused() throws {
    for name in ["", String(repeating: "x", count: 65), "a b", "a\n", "\u{1b}[m", "\u{202e}"] {
      #expect(throws: KeyError.self, "\(name)") { try certificate(name: name) }
    }
    #expect(try Certificate(bytes: certificate(name: String(repeating: "x", count: 64)).bytes).name.count == 64)
    #expect(throws: KeyError.self) {
      try Certificate(of: device, name: "db1", notBefore: 2000, notAfter: 2000, by: certifier)
    }
    for text in ["", "AAAA", "%%%%", String(repeating: "A", count: 1 << 20)] {
      #expect(throws: KeyError.self) { try Certificate(parsing: text) }
    }
    var other = try certificate().bytes
    other[3] = 2
    #expect(reason { try Certificate(bytes: other) }.contains("version 2"))
  }

  @Test("random bytes are never a certificate")
  func garbage() {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<500 {
      let bytes = [0x47, 0x52, 0x43, 1, 4, 0, 0, 0] + (0..<208).map { _ in UInt8.random(in: 0...255, using: &random) }
      #expect(throws: KeyError.self) { try Certificate(bytes: bytes) }
    }
  }
}
