import KernelInfo
import Memory
import Samples

extension FuzzTarget {
  /// BTF, and the layouts and fields of the structs in it.
  static let types = FuzzTarget(
    name: "btf",
    seeds: {
      var writer = BTFWriter()
      let int = writer.integer("int", size: 4, signed: true)
      let pointer = writer.pointer(to: int)
      let list = writer.structure(
        "list_head", size: 16,
        [.init(name: "next", type: pointer, offset: 0), .init(name: "prev", type: pointer, offset: 64)])
      let name = writer.array(of: writer.integer("char", size: 1, signed: false), count: 16)
      let inner = writer.structure("", size: 8, union: true, [.init(name: "usage", type: int, offset: 0)])
      let size = writer.typedef("size_t", writer.const(int))
      let task = writer.structure(
        "task_struct", size: 64,
        [
          .init(name: "pid", type: int, offset: 0), .init(name: "bits", type: size, offset: 35, size: 7),
          .init(name: "", type: inner, offset: 64), .init(name: "tasks", type: list, offset: 128),
          .init(name: "comm", type: name, offset: 256),
        ])
      _ = writer.typedef("task_t", task)
      _ = writer.enumeration("pid_type", [("PIDTYPE_PID", 0), ("PIDTYPE_TGID", 1)])
      _ = writer.wideEnumeration([("WIDE", 1 << 40)])
      return [writer.bytes]
    },
    run: { input in
      guard let types = try? TypeTable(input, release: "fuzz") else { return }
      // What is asked for comes from the seed and from the input's own end, where the names lie.
      let own = input.suffix(512).split(separator: 0).suffix(16).map { String(decoding: $0, as: UTF8.self) }
      let names = ["task_struct", "task_t", "list_head", "pid", "bits", "usage", "tasks", "comm"] + own
      let zeros = [UInt8](repeating: 0xa5, count: 96)
      let reader = ByteReader(zeros.span.bytes)
      for name in names {
        _ = types.enumerator(name)
        guard let structure = try? types.structure(name) else { continue }
        for path in names + ["tasks.next", "tasks.next.prev", ".", "", own.joined(separator: ".")] {
          guard let field = try? structure.field(path) else { continue }
          require(field.offset >= 0 && field.size >= 0, "\(field)")
          _ = try? field.load(reader)
          _ = try? field.loadSigned(reader, base: 40)
          _ = try? field.load(reader, base: -8, element: 3)
          _ = try? field.loadCString(reader, base: 90)
        }
      }
    })
}
