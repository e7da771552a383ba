import Foundation

/// QEMU's machine protocol: a JSON object a line, each command answered by `return` or `error`, with events between.
///
/// Source: QEMU's docs/interop/qmp-spec.rst.
struct QMPConnection: ~Copyable {
  private let socket: AbstractSocket

  init(_ socket: AbstractSocket) throws {
    self.socket = socket
    _ = try socket.readLine(deadline: .now + .seconds(10))
    try execute("qmp_capabilities", [:])
  }

  /// Runs a command, waits for its end, and returns what it returned.
  @discardableResult
  func execute(
    _ command: String, _ arguments: [String: Any], timeout: Duration = .seconds(120)
  ) throws -> [String: Any] {
    let request = try JSONSerialization.data(withJSONObject: ["execute": command, "arguments": arguments])
    try socket.write(Array(request) + [UInt8(ascii: "\n")])
    while true {
      let line = try socket.readLine(deadline: .now + timeout)
      guard let answer = try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] else { continue }
      if let error = answer["error"] as? [String: Any] {
        throw LabError("QEMU refused \(command): \(error["desc"] ?? "without a reason")")
      }
      if let value = answer["return"] { return value as? [String: Any] ?? [:] }
    }
  }
}
