/// QEMU's debugger port: the guest stands still while it is connected.
///
/// A packet is `$`, its text, `#` and the sum of the text's bytes as two hex digits; the other side acknowledges each
/// with `+`. Source: GDB's remote serial protocol.
struct DebugConnection: ~Copyable {
  private let socket: AbstractSocket

  init(_ socket: AbstractSocket) { self.socket = socket }

  /// The bytes at a virtual address of the guest.
  func read(_ address: UInt64, count: Int) throws(LabError) -> [UInt8] {
    let digits = Array(try ask("m\(String(address, radix: 16)),\(String(count, radix: 16))"))
    let bytes = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
      UInt8(String(digits[$0...$0 + 1]), radix: 16)
    }
    guard bytes.count == count, digits.count == count * 2 else {
      throw LabError("QEMU's debugger cannot read \(String(address, radix: 16))")
    }
    return bytes
  }

  /// Writes to a virtual address of the guest, however it is protected.
  func write(_ bytes: [UInt8], at address: UInt64) throws(LabError) {
    let digits = bytes.map { String($0, radix: 16) }.map { $0.count == 1 ? "0" + $0 : $0 }.joined()
    let answer = try ask("M\(String(address, radix: 16)),\(String(bytes.count, radix: 16)):\(digits)")
    guard answer == "OK" else {
      throw LabError("QEMU's debugger cannot write \(String(address, radix: 16)): it answers \(answer)")
    }
  }

  /// Lets the guest run on.
  func detach() throws(LabError) { _ = try ask("D") }

  private func ask(_ text: String) throws(LabError) -> String {
    let sum = String(text.utf8.reduce(0 as UInt8, &+), radix: 16)
    try socket.write(Array("$\(text)#\(sum.count == 1 ? "0" + sum : sum)".utf8))
    let deadline = ContinuousClock.now + .seconds(10)
    while true {
      var answer: [UInt8] = []
      // What precedes the packet are acknowledgements; the two digits of its sum are not looked at.
      while try socket.read(count: 1, deadline: deadline) != Array("$".utf8) {}
      while true {
        let byte = try socket.read(count: 1, deadline: deadline)
        if byte == Array("#".utf8) { break }
        answer += byte
      }
      _ = try socket.read(count: 2, deadline: deadline)
      try socket.write(Array("+".utf8))
      // Not the answer but the news that the guest stopped, for the connection.
      if answer.first != UInt8(ascii: "T") { return String(decoding: answer, as: UTF8.self) }
    }
  }
}
