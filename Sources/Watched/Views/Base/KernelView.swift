public import LinuxKernel
public import Memory

/// What help lists views under: `Process subcommands`.
public enum ViewGroup: String, CaseIterable, Sendable {
  case host = "Host"
  case processes = "Process"
  case memory = "Memory and CPU"
  case files = "File"
  case network = "Network"
  case waiting = "Waiting"
  case integrity = "Integrity"
  case expert = "Expert"

  /// What its views are about.
  public var summary: String {
    switch self {
    case .host: "the host, its processors, its log"
    case .processes:
      "processes and threads: as a list or a tree, with environment, namespaces, control groups, capabilities; where they wait in the kernel, what they have mapped"
    case .memory: "what CPUs, memory and interrupts are used for, pressure, swap"
    case .files:
      "open files, mounts and how full they are, and the page cache, file by file; `files get` writes a file's contents from memory"
    case .network: "the network, in every network namespace"
    case .waiting: "what the kernel waits for, and who holds it up"
    case .integrity:
      "modules, and what may have been tampered with: who is called by system calls, interrupts and probes"
    case .expert: "symbols, types and bytes, for whom that is not enough"
    }
  }
}

/// A view of a kernel, declared once.
///
/// From a type like this, and its line in the list of all views, follow the command with its table, JSON and exit status, the
/// reference of its keys, the fuzz target, the test on a busy guest and the row of the support matrix.
///
/// ```swift
/// public struct LsMod: KernelView {
///   public static let name = "lsmod", group = ViewGroup.integrity
///   public static let summary = "Lists the kernel's loaded modules, the newest first."
///   public static func columns(_ options: NoOptions) -> [ViewColumn<KernelModule>] {
///     [ViewColumn("MODULE", "name", \.name).identity, ViewColumn("SIZE", "size", in: .bytes, \.size)]
///   }
///   public static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<KernelModule> {
///     let table = try kernel.modules()
///     return ViewRows(table.modules, faults: table.faults)
///   }
/// }
/// ```
public protocol KernelView: Sendable {
  associatedtype Row: Sendable
  associatedtype Options: ViewOptions

  /// The command's name, and the view's wherever it is asked for by name.
  static var name: String { get }
  static var group: ViewGroup { get }
  /// One line.
  static var summary: String { get }
  /// What units mean, and what a reader has to know.
  static var discussion: String { get }

  /// Tables of rows, where a view has several: each row is in the first section that takes it.
  static func sections(_ options: Options) -> [ViewSection<Row>]
  /// The columns of a view whose rows are all of one kind.
  static func columns(_ options: Options) -> [ViewColumn<Row>]

  /// Whether a host that is well may have nothing of it.
  static var canBeEmpty: Bool { get }
  /// Whether all of the memory is read.
  static var readsAllMemory: Bool { get }
  /// With which options tests, fuzzers, benchmarks and the support matrix ask for it: each a list of names and texts.
  static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]]

  /// Reads the rows.
  ///
  /// - Throws: ``KernelError`` where the view cannot be had at all. What is missing of it is in the result's faults.
  static func rows(of kernel: Kernel, _ options: Options) throws(KernelError) -> ViewRows<Row>

  /// Another form of output for people than tables; nil for tables.
  static func text(_ rows: [Row], _ options: Options) -> String?
  /// Lines that a table shows below a row.
  static func details(below row: Row, _ options: Options) -> [String]
  /// What people are told of faults, of which there is one at least.
  static func remark(on faults: [MemoryFault]) -> String
}

extension KernelView {
  public static var discussion: String { "" }
  public static var canBeEmpty: Bool { false }
  public static var readsAllMemory: Bool { false }
  public static func samples(_ subject: ViewSubject) -> [[(name: String, text: String)]] { [[]] }
  public static func sections(_ options: Options) -> [ViewSection<Row>] { [ViewSection(columns(options))] }
  public static func columns(_ options: Options) -> [ViewColumn<Row>] { sections(options).flatMap(\.columns) }
  public static func text(_ rows: [Row], _ options: Options) -> String? { nil }
  public static func details(below row: Row, _ options: Options) -> [String] { [] }
  public static func remark(on faults: [MemoryFault]) -> String { faults.remark }
}

extension [MemoryFault] {
  /// How many there are, with the first of them as an example.
  package var remark: String {
    guard let first else { return "" }
    return count == 1
      ? "a part could not be read: \(first)" : "\(count) parts could not be read, for example: \(first)"
  }
}

/// What of a host views are tried on that have to be told what to look at.
public struct ViewSubject: Sendable {
  /// A process.
  public let process: Int32
  /// Text that lies in the memory.
  public let text: String

  public init(process: Int32, text: String) {
    self.process = process
    self.text = text
  }
}

/// One of a view's tables.
public struct ViewSection<Row: Sendable>: Sendable {
  public let columns: [ViewColumn<Row>]
  /// Whether a row belongs here.
  public let takes: @Sendable (Row) -> Bool
  /// Whether people see it, or JSON only has it.
  public let isInTable: Bool

  public init(
    _ columns: [ViewColumn<Row>], isInTable: Bool = true, takes: @escaping @Sendable (Row) -> Bool = { _ in true }
  ) {
    self.columns = columns
    self.isInTable = isInTable
    self.takes = takes
  }

  /// A table of those rows that have a `part`, which its columns are about.
  public init<Part: Sendable>(
    of part: @escaping @Sendable (Row) -> Part?, _ columns: [ViewColumn<Part>], isInTable: Bool = true
  ) {
    self.init(columns.map { $0.of(part) }, isInTable: isInTable) { part($0) != nil }
  }

  /// The column that `name` names; nil where there is none.
  package func column(named name: String) -> ViewColumn<Row>? { columns.named(name, \.info) }
}

/// The rows of a view, and what is wrong with them.
public struct ViewRows<Row: Sendable>: Sendable {
  public var rows: [Row]
  /// What could not be read, also when read again: the answer is partial.
  public var faults: [MemoryFault]
  /// What a reader of the rows ought to know: a sentence each.
  public var notes: [String]
  /// Why the answer is partial, where no fault of the memory is the reason.
  public var shortcomings: [String]

  public init(_ rows: [Row], faults: [MemoryFault] = [], notes: [String] = [], shortcomings: [String] = []) {
    self.rows = rows
    self.faults = faults
    self.notes = notes
    self.shortcomings = shortcomings
  }

  public var isPartial: Bool { !faults.isEmpty || !shortcomings.isEmpty }
}
