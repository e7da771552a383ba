import ArgumentParser
import KernelInfo
import KernelViews
import Output

struct Types: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "types", abstract: "Shows types of the kernel as it lays them out: structs, unions, enums, typedefs.",
    discussion: """
      As pahole does, from the type information that the kernel and its modules carry: behind each member stand its offset and size in \
      bytes (for a bit field the word's offset, the bit, and the word's size), between them the holes. In JSON offsets \
      and sizes are in bytes, bit_offset and bit_size in bits.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Argument(help: ArgumentHelp("The types: task_struct, 'enum pid_type', pid_t.", valueName: "type"))
  var names: [String]

  func run() throws {
    let kernel = try source.openKernel()
    var objects: [JSON] = []
    var text = ""
    for name in names {
      try reporting {
        let type = try kernel.type(name)
        if output.json {
          objects.append(try Self.json(of: type, name: name))
        } else {
          text += (text.isEmpty ? "" : "\n") + (try type.definition())
        }
      }
    }
    if output.json {
      writeOutput(JSON.lines(objects))
    } else {
      // Line by line, as the names come from the watched memory.
      for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
        writeOutput(Array(line.utf8).printable + "\n")
      }
    }
  }

  private static func json(of type: KernelType, name: String) throws -> JSON {
    .object(
      [("name", .string(name)), ("declaration", .string(type.declaration())), ("size", .integer(type.size))]
        + (try parts(of: type, base: 0, depth: 0)))
  }

  private static func parts(of type: KernelType, base: Int, depth: Int) throws -> [(String, JSON)] {
    switch type.kind {
    case .enumeration:
      let values = try type.enumerators()
      return [
        ("enumerators", .object(values.map { ($0.name, .signed($0.value)) }))
      ]
    case .structure, .union:
      return [
        (
          "members",
          .array(
            try type.members().map { member in
              var object: [(String, JSON)] = [
                ("name", .string(member.name)), ("type", .string(member.type.declaration())),
                ("offset", .integer(base + member.offset)), ("size", .integer(member.type.size)),
              ]
              if member.bitSize > 0 {
                object += [
                  ("bit_offset", .integer(base * 8 + member.bitOffset)), ("bit_size", .integer(member.bitSize)),
                ]
              }
              if member.name.isEmpty, depth < 16 {
                object += try parts(of: member.type, base: base + member.offset, depth: depth + 1)
              }
              return .object(object)
            })
        )
      ]
    default: return []
    }
  }
}
