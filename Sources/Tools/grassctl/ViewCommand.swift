import ArgumentParser
import Glibc
import KernelViews
import Output

/// How rows are chosen and written: shared by the commands of all views.
struct RowOptions: ParsableArguments {
  @Flag(help: "Print a JSON array for programs.")
  var json = false

  @Option(help: ArgumentHelp("Only these columns, in this order, by heading or JSON key.", valueName: "a,b"))
  var columns: String?

  @Option(
    help: ArgumentHelp("Sort by this column; -COLUMN (--sort=-rss) begins with the largest.", valueName: "column"))
  var sort: String?

  @Option(
    name: .customLong("where"), parsing: .singleValue,
    help: ArgumentHelp(
      "Only rows of which this holds: a column, = != < <= > >= or ~ (contains), and a value.", valueName: "condition"))
  var conditions: [String] = []

  @Flag(help: "Leave out the headings.")
  var noHeader = false

  @Flag(help: "Do not cut lines to the width of the terminal.")
  var wide = false

  @Option(help: ArgumentHelp("Look again every so many seconds.", valueName: "seconds"))
  var watch: Double?

  func validate() throws {
    if let watch, !(watch > 0 && watch < 86400) { throw ValidationError("--watch takes seconds, more than 0.") }
    _ = try filters()
  }

  private func filters() throws -> [ViewFilter] {
    do throws(ViewOptionError) {
      var filters: [ViewFilter] = []
      for condition in conditions { filters.append(try ViewFilter(condition)) }
      return filters
    } catch {
      throw ValidationError("--where: \(error)")
    }
  }

  /// What is asked for, on the terminal that there is.
  func format() throws -> ViewFormat {
    var format = ViewFormat()
    format.columns = columns.map { $0.split(separator: ",").map { String($0) } }
    format.sort = sort
    format.filters = try filters()
    format.hasHeader = !noHeader
    format.width = wide ? nil : Terminal.width
    format.hasColour = Terminal.takesColour
    return format
  }
}

/// The terminal that standard output goes to, if it does.
enum Terminal {
  /// Its width in characters; nil where output goes elsewhere.
  static var width: Int? {
    var size = winsize()
    guard isatty(STDOUT_FILENO) == 1, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
      return nil
    }
    return Int(size.ws_col)
  }

  /// Whether colour is welcome there (no-color.org).
  static var takesColour: Bool {
    isatty(STDOUT_FILENO) == 1 && getenv("NO_COLOR").map { $0.pointee == 0 } ?? true
      && getenv("TERM").map { String(cString: $0) } != "dumb"
  }
}

/// The command of a view: opens the kernel, reads the rows, prints them.
struct ViewCommand<View: KernelView>: ParsableCommand {
  static var configuration: CommandConfiguration {
    CommandConfiguration(
      commandName: View.companions.isEmpty ? View.name : "list", abstract: View.summary, discussion: View.discussion)
  }

  @OptionGroup var source: SourceOptions
  @OptionGroup var arguments: ViewArguments<View>
  @OptionGroup(title: "Rows and columns") var rows: RowOptions

  func run() throws { try Self.show(source, arguments, rows) }

  /// Opens the kernel, reads the rows and prints them, once or again and again.
  static func show(_ source: SourceOptions, _ arguments: ViewArguments<View>, _ rows: RowOptions) throws {
    let options = try arguments.options()
    let format = try rows.format()
    let kernel = try source.openKernel(slots: rows.watch == nil ? 4 : 1)
    guard let pause = rows.watch else { return try look(at: kernel, options, format, asJSON: rows.json) }
    while true {
      if isatty(STDOUT_FILENO) == 1 { writeOutput("\u{1b}[H\u{1b}[2J") }
      do {
        try look(at: kernel, options, format, asJSON: rows.json)
      } catch let status as ExitCode where status == ExitStatus.partial {
        // Said on standard error; the next look may be whole.
      }
      usleep(useconds_t(pause * 1e6))
    }
  }

  private static func look(
    at kernel: Kernel, _ options: View.Options, _ format: ViewFormat, asJSON: Bool
  ) throws {
    let found = try reporting { try View.rows(of: kernel, options) }
    let isEmpty: Bool
    do throws(ViewOptionError) {
      let wanted = try format.arranged(found.rows, of: View.self, options)
      isEmpty = wanted.isEmpty
      if asJSON {
        writeOutput(try format.json(wanted, of: View.self, options))
      } else {
        writeOutput(try format.text(wanted, of: View.self, options))
      }
    } catch {
      throw ValidationError("\(error)")
    }
    for note in found.notes { writeNote(note) }
    for shortcoming in found.shortcomings { writeNote(shortcoming) }
    try reportFaults(found.faults, as: View.remark)
    if !found.shortcomings.isEmpty { throw ExitStatus.partial }
    // As ps and pgrep do where nothing is what was asked for.
    if isEmpty, options.selects || !format.filters.isEmpty { throw ExitStatus.partial }
  }
}

/// The command of a view beside which there are others: what it does by itself is its subcommand `list`.
struct ViewCommandGroup<View: KernelView>: ParsableCommand {
  static var configuration: CommandConfiguration {
    CommandConfiguration(
      commandName: View.name, abstract: View.summary, subcommands: [ViewCommand<View>.self] + View.companions,
      defaultSubcommand: ViewCommand<View>.self)
  }
}

extension KernelView {
  /// Its command.
  static var command: any ParsableCommand.Type {
    // As with mount(8): without a directory it lists, with one it mounts.
    if self == MountView.self { return MountCommand.self }
    return companions.isEmpty ? ViewCommand<Self>.self : ViewCommandGroup<Self>.self
  }

  /// What else can be done with what it shows: `grassctl files get`.
  fileprivate static var companions: [any ParsableCommand.Type] { self == CachedFileView.self ? [FilesGet.self] : [] }
}
