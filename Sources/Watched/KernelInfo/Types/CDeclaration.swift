/// Writes types as C declarations, laid out and annotated as pahole does.
extension KernelType {
  /// The declaration of something of this type called `name`: `struct list_head *next`, `void (*func)(int)`.
  ///
  /// Of a struct, union or enum without a name the members are left out.
  public func declaration(of name: String = "") -> String {
    let text = Self.declare(table, number, name, depth: 0)
    return text
  }

  private static func declare(_ table: TypeTable, _ number: Int, _ inner: String, depth: Int) -> String {
    func join(_ base: String) -> String { inner.isEmpty ? base : "\(base) \(inner)" }
    guard depth < 2 * TypeTable.deepest, let record = try? table.record(ofType: number) else { return join("?") }
    func tagged(_ tag: String) -> String {
      let name = table.name(record.nameOffset)
      return join(name.isEmpty ? "\(tag) {…}" : "\(tag) \(name)")
    }
    /// `const`, `volatile`, `restrict`: behind the asterisk of a pointer, before everything else.
    func qualified(_ word: String) -> String {
      if let target = try? table.record(ofType: record.sizeOrType), target.kind == .pointer {
        return declare(table, record.sizeOrType, inner.isEmpty ? word : "\(word) \(inner)", depth: depth + 1)
      }
      return "\(word) " + declare(table, record.sizeOrType, inner, depth: depth + 1)
    }
    switch record.kind {
    case .void: return join("void")
    case .structure: return tagged("struct")
    case .union: return tagged("union")
    case .enumeration, .wideEnumeration: return tagged("enum")
    case .forward: return tagged(record.flag ? "union" : "struct")
    case .const: return qualified("const")
    case .volatile: return qualified("volatile")
    case .restrict: return qualified("restrict")
    case .typeTag: return declare(table, record.sizeOrType, inner, depth: depth + 1)
    case .pointer:
      let target = (try? table.record(ofType: record.sizeOrType).kind) ?? .void
      let needsParentheses = target == .array || target == .prototype
      return declare(
        table, record.sizeOrType, needsParentheses ? "(*\(inner))" : "*\(inner)", depth: depth + 1)
    case .array:
      let count = (try? table.word(record.entry(0) + 8)) ?? 0
      let element = (try? table.word(record.entry(0))) ?? 0
      return declare(table, Int(element), "\(inner)[\(count == 0 ? "" : "\(count)")]", depth: depth + 1)
    case .prototype:
      var parameters: [String] = []
      // No function of the kernel has more; a lie about it would be a long line.
      for index in 0..<min(record.count, 64) {
        guard let type = try? table.word(record.entry(index) + 4) else { break }
        parameters.append(
          type == 0 && index == record.count - 1 && index > 0
            ? "..." : declare(table, Int(type), "", depth: depth + 8))
      }
      let list = parameters.isEmpty ? "void" : parameters.joined(separator: ", ")
      return declare(table, record.sizeOrType, "\(inner)(\(list))", depth: depth + 1)
    default: return join(table.name(record.nameOffset))
    }
  }

  /// The whole definition, with offset and size of each member, holes, and boundaries of cache lines.
  ///
  /// Cost: linear in the members.
  public func definition() throws(KernelInfoError) -> String {
    do {
      let record = try table.record(ofType: number)
      switch record.kind {
      case .typedef:
        let target = try table.resolve(number).record
        let name = table.name(record.nameOffset)
        // A struct that has no name but this.
        if target.nameOffset == 0, [.structure, .union, .enumeration, .wideEnumeration].contains(target.kind) {
          return "typedef " + (try body(indent: "")) + " \(name);\n"
        }
        return "typedef " + KernelType(table: table, number: record.sizeOrType).declaration(of: name) + ";\n"
      case .structure, .union, .enumeration, .wideEnumeration: return try body(indent: "") + ";\n"
      default: return declaration() + ";\n"
      }
    } catch {
      throw (error as? KernelInfoError) ?? table.malformed("\(error)")
    }
  }

  /// `struct name { … }`, without what ends it.
  private func body(indent: String) throws -> String {
    var writer = DefinitionWriter()
    return try writer.body(of: self, indent: indent, base: 0, depth: 0)
  }
}

/// Writes one definition, and counts what it writes: the types may be made to hurt.
private struct DefinitionWriter {
  private var budget = 50_000
  /// The line of the cache that the last member written starts in.
  private var cacheLine = 0

  private static let cacheLineSize = 64

  mutating func body(of type: KernelType, indent: String, base: Int, depth: Int) throws -> String {
    let record = try type.resolved()
    let name = type.table.name(record.nameOffset)
    let tag: String
    switch record.kind {
    case .structure: tag = "struct"
    case .union: tag = "union"
    default: tag = "enum"
    }
    var text = tag + (name.isEmpty || depth > 0 ? "" : " \(name)") + " {\n"
    if tag == "enum" {
      for (name, value) in try type.enumerators() { text += "\(indent)\t\(name) = \(value),\n" }
      return text + "\(indent)}"
    }
    guard depth < TypeTable.deepest else { throw type.table.malformed("structs are nested too deeply") }

    let isUnion = record.kind == .union
    let members = try type.members()
    // In bits: where the members so far end.
    var end = 0
    var holes = (count: 0, bytes: 0)
    var sum = 0
    for member in members {
      budget -= 1
      guard budget > 0 else { throw type.table.malformed("a struct has too many members") }
      let size = member.type.size
      if !isUnion {
        let hole = member.bitOffset - end
        if hole >= 8 {
          let bytes = hole / 8
          text += "\n\(indent)\t/* XXX \(bytes) byte\(bytes == 1 ? "" : "s") hole, try to pack */\n\n"
          holes.count += 1
          holes.bytes += bytes
        } else if hole > 0 {
          text += "\n\(indent)\t/* XXX \(hole) bit\(hole == 1 ? "" : "s") hole, try to pack */\n\n"
        }
        end = max(end, member.bitOffset + (member.bitSize > 0 ? member.bitSize : size * 8))
        if member.bitSize == 0 { sum += size }
        let offset = base + member.offset
        if offset / Self.cacheLineSize > cacheLine {
          cacheLine = offset / Self.cacheLineSize
          let past = offset % Self.cacheLineSize
          text +=
            "\(indent)\t/* --- cacheline \(cacheLine) boundary (\(cacheLine * Self.cacheLineSize) bytes)"
            + (past == 0 ? "" : " was \(past) bytes ago") + " --- */\n"
        }
      }
      text += try line(of: member, indent: indent + "\t", base: base, depth: depth)
    }
    if depth == 0 {
      let size = record.sizeOrType
      let lines = (size + Self.cacheLineSize - 1) / Self.cacheLineSize
      text += "\n\t/* size: \(size), cachelines: \(lines), members: \(members.count) */\n"
      if holes.count > 0 {
        text += "\t/* sum members: \(sum), holes: \(holes.count), sum holes: \(holes.bytes) */\n"
      }
      if !isUnion, size - (end + 7) / 8 > 0 { text += "\t/* padding: \(size - (end + 7) / 8) */\n" }
      if size % Self.cacheLineSize != 0 { text += "\t/* last cacheline: \(size % Self.cacheLineSize) bytes */\n" }
    }
    return text + "\(indent)}"
  }

  private mutating func line(of member: KernelType.Member, indent: String, base: Int, depth: Int) throws -> String {
    let record = try member.type.table.record(ofType: member.type.number)
    let isAnonymous =
      record.nameOffset == 0 && [.structure, .union, .enumeration, .wideEnumeration].contains(record.kind)
    var text: String
    if isAnonymous {
      text = indent + (try body(of: member.type, indent: indent, base: base + member.offset, depth: depth + 1))
      if !member.name.isEmpty { text += " \(member.name)" }
    } else {
      text = indent + member.type.declaration(of: member.name)
    }
    if member.bitSize > 0 { text += ":\(member.bitSize)" }
    text += ";"
    let last = text.split(separator: "\n").last.map { $0.count } ?? 0
    text += String(repeating: " ", count: max(1, 52 - last))
    let place =
      member.bitSize > 0
      ? "\(base + member.offset):\(pad(member.bitOffset - member.offset * 8, 2))" : "\(base + member.offset)"
    return text + "/* \(pad(place, 5)) \(pad(member.type.size, 5)) */\n"
  }

  private func pad(_ value: some CustomStringConvertible, _ width: Int) -> String {
    let text = value.description
    return String(repeating: " ", count: max(0, width - text.count)) + text
  }
}
