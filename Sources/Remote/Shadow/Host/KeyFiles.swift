import Binding
import CodeViews
import KernelInfo
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/keys and /proc/key-users.
///
/// Source: security/keys/proc.c, `proc_keys_show` and `proc_key_users_show`.
struct KeyFiles: KernelReader {
  static let subject = "the keys"

  private struct Key: KernelShape {
    static let type = "key"
    let node = Place("serial_node"), serial = Field<Int32>("serial"), uses = Field<Int32>("usage.refs.counter")
    let expires = Field<Int64>("expiry"), uid = Field<UInt32>("uid.val"), gid = Field<UInt32>("gid.val")
    let permissions = Field<UInt32>("perm"), flags = Field<UInt64>("flags"), state = Field<Int16>("state")
    let length = Field<UInt16>("datalen"), type = Field<VirtualAddress>("type")
    let description = Field<VirtualAddress>("description")
    let leaves = Field<UInt64>("keys.nr_leaves_on_tree"), data = Place("payload")
  }

  private struct Kind: KernelShape {
    static let type = "key_type"
    let name = Field<VirtualAddress>("name"), describe = Field<VirtualAddress>("describe")
  }

  private struct User: KernelShape {
    static let type = "key_user"
    let node = Place("node"), uses = Field<Int32>("usage.refs.counter"), uid = Field<UInt32>("uid.val")
    let keys = Field<Int32>("nkeys.counter"), live = Field<Int32>("nikeys.counter")
    let counted = Field<Int32>("qnkeys"), bytes = Field<Int32>("qnbytes")
  }

  private let key: Bound<Key>, kind: Bound<Kind>, user: Bound<User>
  private let tree: RedBlackTree

  /// More keys than a host has room for.
  private static let limit = 1 << 22

  init(kernel: Kernel) throws {
    (key, kind, user) = try kernel.types.bind()
    tree = try RedBlackTree(types: kernel.types)
  }

  private func nodes(_ root: String, _ kernel: Kernel) throws -> [VirtualAddress] {
    let root = try kernel.addressSpace.pointer(at: kernel.symbol(root, for: Self.self))
    let found = tree.nodes(root: root, in: kernel.addressSpace, limit: Self.limit)
    if let fault = found.faults.first { throw fault }
    return found.nodes
  }

  /// /proc/keys, as root finds it who has none of them in a keyring of its own.
  func keys(_ kernel: Kernel) throws -> [UInt8] {
    let keys = kernel.addressSpace.read(
      key, at: try nodes("key_serial_tree", kernel).map { $0 - key.shape.node.offset })
    let kinds = kernel.addressSpace.read(kind, at: keys.pointers(\.type))
    let names = kernel.addressSpace.strings(at: kinds.pointers(\.name))
    let descriptions = kernel.addressSpace.strings(at: keys.pointers(\.description), limit: 4096)
    let map = try kernel.symbolMap()
    let now = try kernel.realTime()
    var text = ProcText()
    for key in keys {
      let permissions = try key.permissions
      // KEY_USR_VIEW, KEY_GRP_VIEW, KEY_OTH_VIEW.
      guard
        try key.uid == 0
          ? permissions >> 16 & 1 != 0 : try key.gid == 0 ? permissions >> 8 & 1 != 0 : permissions & 1 != 0
      else { continue }
      let (flags, state) = (try key.flags, try key.state)
      // KEY_FLAG_*, from include/linux/key.h.
      func flag(_ bit: UInt64, _ letter: String) -> String { flags >> bit & 1 != 0 ? letter : "-" }
      let letters =
        (state != 0 ? "I" : "-") + flag(1, "R") + flag(0, "D") + flag(2, "Q") + flag(3, "U") + (state < 0 ? "N" : "-")
        + flag(5, "i")
      let serial = ProcText.hex(UInt64(UInt32(bitPattern: try key.serial)), 8)
      text.add("\(serial) \(letters) \(ProcText.padded("\(try key.uses)", 5)) ")
      text.add("\(ProcText.padded(Self.rest(until: try key.expires, now), 4)) \(ProcText.hex(UInt64(permissions), 8)) ")
      // Nobody's are shown as those of who is not known (overflowgid).
      func owner(_ number: UInt32) -> String { ProcText.padded("\(number == .max ? 65534 : number)", 5) }
      text.add("\(owner(try key.uid)) \(owner(try key.gid)) ")
      let name = String(decoding: try names[key.index].get().prefix(9), as: UTF8.self)
      text.add("\(ProcText.filled(name, 9)) ")
      // None is "[anon]" of keyrings.
      let hasName = try key.description.rawValue != 0
      text.add(hasName ? try descriptions[key.index].get() : [])
      let describe = try kinds[key.index].describe
      text.add(
        try details(
          of: key, hasName: hasName, describe.rawValue == 0 ? "" : map.place(of: describe)?.name ?? "?", kernel))
      text.line("")
    }
    return text.bytes
  }

  /// What the key's kind says of it behind its description.
  private func details(of key: Reading<Key>, hasName: Bool, _ function: String, _ kernel: Kernel) throws -> String {
    let isThere = try key.state == 1
    switch function {
    case "": return ""
    case "keyring_describe":
      let leaves = try key.leaves
      return (hasName ? "" : "[anon]") + (isThere ? leaves == 0 ? ": empty" : ": \(leaves)" : "")
    case "user_describe": return isThere ? ": \(try key.length)" : ""
    case "asymmetric_key_describe": return try certificate(key, kernel)
    default: throw ShadowError.unreadable("what \(function) says of a key")
    }
  }

  private struct Subtype: KernelShape {
    static let type = "asymmetric_key_subtype"
    let describe = Field<VirtualAddress>("describe")
  }

  private struct PublicKey: KernelShape {
    static let type = "public_key"
    let kind = Field<VirtualAddress>("id_type"), algorithm = Field<VirtualAddress>("pkey_algo")
  }

  /// Source: crypto/asymmetric_keys/asymmetric_type.c, `asymmetric_key_describe`; public_key.c, `public_key_describe`.
  private func certificate(_ key: Reading<Key>, _ kernel: Kernel) throws -> String {
    // enum asymmetric_payload_bits: the key itself, its subtype, its names.
    let payload = try kernel.addressSpace.pointers(inArrayAt: key.address(of: \.data), count: 4)
    func index(_ name: String, _ plain: Int) -> Int {
      kernel.types.enumerator(name).map { Int(max(0, min(3, $0))) } ?? plain
    }
    let subtype = payload[index("asym_subtype", 1)]
    guard subtype.rawValue != 0 else { return "" }
    let describe = try kernel.read(Subtype.self, at: [subtype])[0].describe
    guard try kernel.symbolMap().place(of: describe)?.name == "public_key_describe" else {
      throw ShadowError.unreadable("what a key of this kind says of itself")
    }
    let own = try kernel.read(PublicKey.self, at: [payload[index("asym_crypto", 0)]])[0]
    let words = try kernel.addressSpace.strings(at: [own.kind, own.algorithm]).map {
      String(decoding: try $0.get(), as: UTF8.self)
    }
    var text = ": " + words.joined(separator: ".")
    let names = payload[index("asym_key_ids", 2)]
    if names.rawValue != 0 {
      let second = try kernel.addressSpace.pointer(at: names + 8)
      if second.rawValue != 0 {
        let length = Int(try kernel.addressSpace.load(second, as: UInt16.self))
        let skipped = max(0, length - 4)
        let bytes = try kernel.addressSpace.read(
          second + kernel.offset(of: "data", in: "asymmetric_key_id") + skipped, count: length - skipped)
        text += " " + bytes.map { ProcText.hex(UInt64($0), 2) }.joined() + " []"
      }
    }
    return text
  }

  private static func rest(until end: Int64, _ now: Int64) -> String {
    // TIME64_MAX since 6.4; zero before.
    guard end != 0, end != Int64.max else { return "perm" }
    guard end > now else { return "expd" }
    let left = end - now
    let units: [(Int64, String)] = [(60, "s"), (3600, "m"), (86400, "h"), (604800, "d"), (Int64.max, "w")]
    let index = units.firstIndex { left < $0.0 } ?? 4
    return "\(left / (index == 0 ? 1 : units[index - 1].0))\(units[index].1)"
  }

  func users(_ kernel: Kernel) throws -> [UInt8] {
    var text = ProcText()
    func quota(_ name: String) throws -> UInt32 { try kernel.number("key_quota_\(name)") }
    for user in kernel.addressSpace.read(
      user, at: try nodes("key_user_tree", kernel).map({ $0 - user.shape.node.offset }))
    {
      let isRoot = try user.uid == 0
      let (most, mostBytes) = (
        try quota(isRoot ? "root_maxkeys" : "maxkeys"), try quota(isRoot ? "root_maxbytes" : "maxbytes")
      )
      text.line(
        "\(ProcText.padded("\(try user.uid)", 5)): \(ProcText.padded("\(try user.uses)", 5)) "
          + "\(try user.keys)/\(try user.live) \(try user.counted)/\(most) \(try user.bytes)/\(mostBytes)")
    }
    return text.bytes
  }
}
