import FoundationEssentials
import Host
import KernelInfo
import KernelViews
import Memory

/// A kernel's types and symbols in Volatility's intermediate symbol format, made of what the kernel itself carries: no debug package is
/// needed for it.
///
/// Types are those of its BTF; those of variables, which BTF has for per-CPU ones only, are the kernel's own declarations of those that
/// Volatility asks for. Addresses are as linked, so that one file serves all boots of a build. Source: Volatility 3's
/// schema 6.2.0 (`volatility3/schemas`).
struct IntermediateSymbols {
  private let kernel: Kernel
  private let types: TypeTable
  private var out: [UInt8] = []
  private var isFirst = true
  /// The basic types that were named so far: size in bytes, signed, kind.
  private var basics: [String: (size: Int, isSigned: Bool, kind: String)] = [
    "pointer": (8, false, "int"), "void": (0, false, "void"),
  ]

  init(of kernel: Kernel) {
    self.kernel = kernel
    types = kernel.found.types
  }

  /// What variables are, as the kernel declares them.
  ///
  /// Where a kernel has no such type, its variable has none here.
  private static let variables: [String: String] = [
    "init_task": "struct task_struct", "init_mm": "struct mm_struct", "init_files": "struct files_struct",
    "init_pid_ns": "struct pid_namespace", "init_uts_ns": "struct uts_namespace",
    "init_user_ns": "struct user_namespace",
    "init_net": "struct net", "init_cred": "struct cred", "init_nsproxy": "struct nsproxy",
    "net_namespace_list": "struct list_head", "modules": "struct list_head", "super_blocks": "struct list_head",
    "tty_drivers": "struct list_head", "vmap_area_list": "struct list_head", "ftrace_ops_list": "struct ftrace_ops *",
    "module_kset": "struct kset *", "prb": "struct printk_ringbuffer *", "printk_rb_static": "struct printk_ringbuffer",
    "iomem_resource": "struct resource", "ioport_resource": "struct resource", "tk_core": "struct timekeeper",
    "prog_idr": "struct idr", "map_idr": "struct idr", "link_idr": "struct idr",
    "keyboard_notifier_list": "struct atomic_notifier_head", "socket_file_ops": "struct file_operations",
    "sockfs_dentry_operations": "struct dentry_operations", "tcp4_seq_afinfo": "struct tcp_seq_afinfo",
    "tcp6_seq_afinfo": "struct tcp_seq_afinfo", "udp4_seq_afinfo": "struct udp_seq_afinfo",
    "udp6_seq_afinfo": "struct udp_seq_afinfo", "page_offset_base": "unsigned long",
    "vmalloc_base": "unsigned long", "vmemmap_base": "unsigned long", "phys_base": "unsigned long",
    "jiffies": "unsigned long", "jiffies_64": "unsigned long", "nr_threads": "int",
    "pgdir_shift": "unsigned int", "ptrs_per_p4d": "unsigned int", "__pgtable_l5_enabled": "unsigned int",
    "node_data": "struct pglist_data *[]", "mem_section": "struct mem_section **",
  ]

  /// The whole file.
  ///
  /// - Throws: ``KernelInfoError`` where a type is broken. Cost: all types and symbols once; some 30 MB.
  mutating func bytes() throws -> [UInt8] {
    out.reserveCapacity(32 << 20)
    put("{\"metadata\":{\"format\":\"6.2.0\",\"producer\":{\"name\":\"grassctl\",\"version\":")
    string(Version.current)
    put("},\"linux\":{\"symbols\":[],\"types\":[]}},\"enums\":{")
    for (number, record) in named([.enumeration, .wideEnumeration]) { try enumeration(number, record) }
    put("},\"user_types\":{")
    isFirst = true
    for (number, record) in named([.structure, .union]) { try structure(number, record) }
    put("},\"symbols\":{")
    try symbols()
    put("},\"base_types\":{")
    isFirst = true
    for (name, basic) in basics.sorted(by: { $0.key < $1.key }) {
      member(name)
      put(
        "{\"size\":\(basic.size),\"signed\":\(basic.isSigned),\"kind\":\"\(basic.kind)\",\"endian\":\"little\"}")
    }
    put("}}\n")
    return out
  }

  /// The types of these kinds; of those with one name the first.
  private func named(_ kinds: Set<TypeTable.Kind>) -> [(number: Int, record: TypeTable.Record)] {
    var found: [(number: Int, record: TypeTable.Record)] = []
    var seen: Set<String> = []
    var number = 1
    while let record = try? types.record(ofType: number) {
      if kinds.contains(record.kind), seen.insert(name(number, record)).inserted { found.append((number, record)) }
      number += 1
    }
    return found
  }

  /// What a struct, union or enum is called; those without a name are told apart by their numbers.
  private func name(_ number: Int, _ record: TypeTable.Record) -> String {
    let name = types.name(record.nameOffset)
    return name.isEmpty ? "unnamed_\(String(number, radix: 16))" : name
  }

  private mutating func enumeration(_ number: Int, _ record: TypeTable.Record) throws {
    member(name(number, record))
    let base = basic(
      ["1": "char", "2": "short", "4": "int", "8": "long"]["\(record.sizeOrType)"].map {
        record.flag ? $0 : "unsigned \($0)"
      }
        ?? "int", size: record.sizeOrType, isSigned: record.flag)
    put("{\"size\":\(record.sizeOrType),\"base\":")
    string(base)
    put(",\"constants\":{")
    let outer = isFirst
    isFirst = true
    var seen: Set<String> = []
    for index in 0..<record.count {
      let place = record.entry(index)
      let low = try types.word(place + 4)
      let name = types.name(Int(try types.word(place)))
      guard seen.insert(name).inserted else { continue }
      member(name)
      if record.kind == .wideEnumeration {
        let value = UInt64(low) | UInt64(try types.word(place + 8)) << 32
        put(record.flag ? "\(Int64(bitPattern: value))" : "\(value)")
      } else {
        put(record.flag ? "\(Int32(bitPattern: low))" : "\(low)")
      }
    }
    isFirst = outer
    put("}}")
  }

  private mutating func structure(_ number: Int, _ record: TypeTable.Record) throws {
    member(name(number, record))
    put("{\"kind\":\"\(record.kind == .union ? "union" : "struct")\",\"size\":\(record.sizeOrType),\"fields\":{")
    let outer = isFirst
    isFirst = true
    var seen: Set<String> = []
    for index in 0..<record.count {
      let field = try types.member(index, of: record)
      let own = types.name(field.nameOffset)
      let name = own.isEmpty ? "unnamed_field_\(String(field.bitOffset / 8, radix: 16))_\(index)" : own
      guard seen.insert(name).inserted else { continue }
      member(name)
      put("{\"type\":")
      var offset = field.bitOffset / 8
      if field.bitSize > 0 {
        // A bit field lies in a word of its type.
        let size = max(1, min(8, try types.size(of: types.resolve(field.type).record)))
        offset = field.bitOffset / (8 * size) * size
        put(
          "{\"kind\":\"bitfield\",\"bit_position\":\(field.bitOffset - 8 * offset),\"bit_length\":\(field.bitSize),\"type\":"
        )
        try type(field.type)
        put("}")
      } else {
        try type(field.type)
      }
      put(",\"offset\":\(offset)\(own.isEmpty ? ",\"anonymous\":true" : "")}")
    }
    isFirst = outer
    put("}}")
  }

  /// A reference to type `number`.
  private mutating func type(_ number: Int, depth: Int = 0) throws {
    let record = try types.resolve(number).record
    switch record.kind {
    case .structure, .union:
      put("{\"kind\":\"\(record.kind == .union ? "union" : "struct")\",\"name\":")
      string(name(try self.number(of: number), record))
      put("}")
    case .enumeration, .wideEnumeration:
      put("{\"kind\":\"enum\",\"name\":")
      string(name(try self.number(of: number), record))
      put("}")
    case .forward:
      put("{\"kind\":\"\(record.flag ? "union" : "struct")\",\"name\":")
      string(types.name(record.nameOffset))
      put("}")
    case .pointer where depth < TypeTable.deepest:
      put("{\"kind\":\"pointer\",\"subtype\":")
      try type(record.sizeOrType, depth: depth + 1)
      put("}")
    case .array where depth < TypeTable.deepest:
      put("{\"kind\":\"array\",\"count\":\(try types.arrayParts(of: record).count),\"subtype\":")
      try type(Int(try types.word(record.entry(0))), depth: depth + 1)
      put("}")
    case .prototype, .function: put("{\"kind\":\"function\"}")
    case .integer:
      let encoding = try types.word(record.entry(0))
      let name = types.name(record.nameOffset)
      let kind = encoding >> 26 & 1 == 1 ? "bool" : name == "char" || encoding >> 25 & 1 == 1 ? "char" : "int"
      put("{\"kind\":\"base\",\"name\":")
      string(basic(name, size: record.sizeOrType, isSigned: encoding >> 24 & 1 == 1, kind: kind))
      put("}")
    case .float:
      put("{\"kind\":\"base\",\"name\":")
      string(basic(types.name(record.nameOffset), size: record.sizeOrType, isSigned: true, kind: "float"))
      put("}")
    default: put("{\"kind\":\"base\",\"name\":\"void\"}")
    }
  }

  /// The number of what type `number` is without typedefs and qualifiers.
  private func number(of number: Int) throws -> Int {
    var number = number
    for _ in 0..<TypeTable.deepest {
      let record = try types.record(ofType: number)
      switch record.kind {
      case .typedef, .volatile, .const, .restrict, .typeTag: number = record.sizeOrType
      default: return number
      }
    }
    throw types.malformed("type \(number) refers to itself")
  }

  /// Names a basic type; where one of that name has another form, this one gets a name of its own.
  private mutating func basic(_ name: String, size: Int, isSigned: Bool, kind: String = "int") -> String {
    var name = name
    while let known = basics[name], known != (size, isSigned, kind) { name += "_" }
    basics[name] = (size, isSigned, kind)
    return name
  }

  private mutating func symbols() throws {
    isFirst = true
    var seen: Set<String> = []
    let image = FoundKernel.imageMap
    let perCPU = try perCPUTypes()
    for symbol in kernel.symbols {
      guard seen.insert(symbol.name).inserted else { continue }
      member(symbol.name)
      // What is not in the image is a number, or an offset, and is not moved.
      let isInImage = symbol.address >= image
      let address = isInImage ? symbol.address.rawValue &- kernel.found.slide : symbol.address.rawValue
      put("{\"address\":\(address)")
      if let number = perCPU[symbol.name] {
        put(",\"type\":")
        try type(number)
      } else if let declaration = Self.variables[symbol.name] {
        try declare(declaration)
      }
      if symbol.name == "linux_banner" {
        let text = Data(Array(kernel.found.banner.utf8) + [10, 0]).base64EncodedString()
        put(
          ",\"type\":{\"kind\":\"array\",\"count\":\(kernel.found.banner.utf8.count + 2),\"subtype\":{\"kind\":\"base\",\"name\":"
        )
        string(basic("char", size: 1, isSigned: true, kind: "char"))
        put("}},\"constant_data\":\"\(text)\"")
      }
      put("}")
    }
  }

  /// A variable's type as C declares it: a struct or a number, perhaps behind pointers, perhaps several of it.
  private mutating func declare(_ declaration: String) throws {
    let isArray = declaration.hasSuffix("[]")
    let base = declaration.prefix { $0 != "*" && $0 != "[" }.split(separator: " ").joined(separator: " ")
    let pointers = declaration.filter { $0 == "*" }.count
    var text = ""
    if base.hasPrefix("struct ") {
      let name = String(base.dropFirst("struct ".count))
      guard types.hasStructure(name) else { return }
      text = "{\"kind\":\"struct\",\"name\":\"\(name)\"}"
    } else {
      let size = base.hasSuffix("long") ? 8 : 4
      let name = basic(base, size: size, isSigned: !base.hasPrefix("unsigned"))
      text = "{\"kind\":\"base\",\"name\":\"\(name)\"}"
    }
    for _ in 0..<pointers { text = "{\"kind\":\"pointer\",\"subtype\":\(text)}" }
    if isArray { text = "{\"kind\":\"array\",\"count\":1,\"subtype\":\(text)}" }
    put(",\"type\":\(text)")
  }

  /// The types of per-CPU variables, which BTF has.
  private func perCPUTypes() throws -> [String: Int] {
    var found: [String: Int] = [:]
    var number = 1
    while let record = try? types.record(ofType: number) {
      if record.kind == .variable { found[types.name(record.nameOffset)] = record.sizeOrType }
      number += 1
    }
    return found
  }

  /// Appends what is JSON already.
  private mutating func put(_ text: String) { out += text.utf8 }

  private mutating func member(_ name: String) {
    if !isFirst { put(",") }
    isFirst = false
    string(name)
    put(":")
  }

  /// A name as a JSON string; the kernel's names are ASCII, and what else memory holds does no harm.
  private mutating func string(_ text: String) {
    out.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): out += [UInt8(ascii: "\\"), byte]
      case 0x20..<0x7f: out.append(byte)
      default: out.append(UInt8(ascii: "?"))
      }
    }
    out.append(UInt8(ascii: "\""))
  }
}
