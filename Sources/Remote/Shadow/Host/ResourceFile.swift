import Binding
import LinuxKernel
import Memory
import Paging

/// The lines of /proc/iomem and /proc/ioports: a tree of ranges.
///
/// Source: kernel/resource.c, `r_show`.
enum ResourceFile {
  private struct Resource: KernelShape {
    static let type = "resource"
    let start = Field<UInt64>("start"), end = Field<UInt64>("end"), name = Field<VirtualAddress>("name")
    let sibling = Field<VirtualAddress>("sibling"), child = Field<VirtualAddress>("child")
  }

  private struct Piece {
    var name: VirtualAddress
    var start, end: UInt64
    var sibling, child: VirtualAddress
  }

  /// No host has as many ranges.
  private static let limit = 1 << 16
  /// Ranges that lie deeper are shown as those of this level (MAX_IORES_LEVEL).
  private static let deepest = 5

  static func memory(_ kernel: Kernel) throws -> [UInt8] { try bytes("iomem_resource", kernel) }
  static func ports(_ kernel: Kernel) throws -> [UInt8] { try bytes("ioport_resource", kernel) }

  /// The ranges below the one that the variable `name` is.
  ///
  /// Cost: a round trip for each step down or aside, of all branches at once.
  private static func bytes(_ name: String, _ kernel: Kernel) throws -> [UInt8] {
    let shape = try kernel.bound(Resource.self)
    let root = try kernel.symbol(name, for: "'\(name)'")
    let first = kernel.addressSpace.read(shape, at: [root])[0]
    var pieces: [VirtualAddress: Piece] = [:]
    var wanted = [try first.child].filter { $0.rawValue != 0 }
    while !wanted.isEmpty {
      var next: [VirtualAddress] = []
      for resource in kernel.addressSpace.read(shape, at: wanted) {
        let piece = Piece(
          name: try resource.name, start: try resource.start, end: try resource.end, sibling: try resource.sibling,
          child: try resource.child)
        guard pieces.updateValue(piece, forKey: resource.address) == nil, pieces.count <= limit else {
          throw ShadowError.unreadable("a tree of ranges that holds one twice, or more than \(limit)")
        }
        next += [piece.sibling, piece.child].filter { $0.rawValue != 0 }
      }
      wanted = next
    }
    let order = Array(pieces.keys)
    let names = Dictionary(
      zip(order, kernel.addressSpace.strings(at: order.compactMap { pieces[$0]?.name })),
      uniquingKeysWith: { first, _ in first })
    let width = try first.end < 0x10000 ? 4 : 8
    var text = ProcText()
    var stack = [(place: try first.child, depth: 0)]
    while let (place, depth) = stack.popLast() {
      guard let piece = pieces[place] else { continue }
      stack.append((piece.sibling, depth))
      stack.append((piece.child, depth + 1))
      text.add(String(repeating: "  ", count: min(depth, deepest)))
      text.add("\(ProcText.hex(piece.start, width))-\(ProcText.hex(piece.end, width)) : ")
      text.add(piece.name.rawValue == 0 ? Array("<BAD>".utf8) : try names[place]?.get() ?? [])
      text.line("")
    }
    return text.bytes
  }
}
