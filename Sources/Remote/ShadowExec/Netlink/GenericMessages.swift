import Glibc
import Shadow

/// Answers of generic netlink: what there is of it, and what tasks used and waited for (taskstats), which iotop and htop ask.
///
/// Source: include/uapi/linux/genetlink.h, taskstats.h; net/netlink/genetlink.c, `ctrl_fill_info`.
enum GenericMessages {
  /// GENL_ID_CTRL, and the number under which taskstats is told here.
  private static let control: UInt16 = 0x10, statistics: UInt16 = 0x17

  static func answer(_ request: NetlinkMessage, _ host: TrappedCall.Host) throws -> (type: UInt16, bodies: [[UInt8]])? {
    let command: UInt8 = request.number(0)
    let attributes = request.attributes(from: 4)
    switch (request.type, command) {
    // CTRL_CMD_GETFAMILY, by name (2) or by number (1), or of all.
    case (control, 3):
      let name = Array("TASKSTATS".utf8)
      let isAll = request.flags & NetlinkMessage.Flag.dump == NetlinkMessage.Flag.dump
      let isNamed = attributes[2].map { Array($0.prefix { $0 != 0 }) == name } ?? false
      let isNumbered = attributes[1].map { $0.first == UInt8(statistics) } ?? false
      guard isAll || isNamed || isNumbered else { throw CallError(ENOENT) }
      var body = StructBytes()
      // CTRL_CMD_NEWFAMILY of version 2.
      for byte in [1, 2, 0, 0] as [UInt8] { body.add(byte) }
      body.add(2, text: name)
      body.add(1, statistics)
      // Its version, bytes of its own header, the highest attribute.
      body.add(3, UInt32(1))
      body.add(4, UInt32(0))
      body.add(5, UInt32(4))
      return (control, [body.bytes])
    // TASKSTATS_CMD_GET, of a thread (1) or of a process (2).
    case (statistics, 1):
      guard let kind = [1, 2].first(where: { attributes[$0] != nil }), let bytes = attributes[kind], bytes.count >= 4
      else { throw CallError(EOPNOTSUPP) }
      let number = bytes.prefix(4).reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
      guard let found = try host.answers.taskStatistics(of: Int32(bitPattern: number), isWhole: kind == 2) else {
        throw CallError(ESRCH)
      }
      var inner = StructBytes()
      inner.add(kind, number)
      inner.add(3, found)
      var body = StructBytes()
      // TASKSTATS_CMD_NEW; TASKSTATS_TYPE_AGGR_PID and TASKSTATS_TYPE_AGGR_TGID.
      for byte in [2, 1, 0, 0] as [UInt8] { body.add(byte) }
      body.add(kind + 3, inner.bytes)
      return (statistics, [body.bytes])
    default: return nil
    }
  }
}
