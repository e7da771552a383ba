/// What documents and scripts say of views, made from their list.
public enum ViewReference {
  /// Every key of JSON with its unit, as a page of Markdown.
  public static func keys(_ views: [any KernelView.Type]) -> String {
    views.reduce(
      """
      # Keys of JSON

      Written by `grassctl reference`; not to be edited. With `--json` each command below prints an array with one object a row.
      A key inside an object is written behind a dot, `*` stands for keys that a row brings itself, such as names of counters.
      Some keys are there only with options, and a key may be missing where a row has no such thing. Numbers are in the unit
      that stands beside the key. The last column is the heading in a table, where there is one.

      """
    ) { $0 + section($1) }
  }

  private static func section(_ view: any KernelView.Type) -> String {
    var text = "\n## `\(view.name)`\n\n\(view.summary)\n\n| key | unit | table |\n| --- | --- | --- |\n"
    for column in view.allColumns where column.isInJSON {
      text += "| `\(column.key)` | \(column.unit.rawValue) | \(column.heading) |\n"
      for member in column.members {
        text += "| `\(column.key).\(member.key)` | \(member.unit.rawValue) | |\n"
      }
    }
    return text
  }

  /// The views of each group, as rows of a table in Markdown.
  public static func groups(_ views: [any KernelView.Type]) -> String {
    ViewGroup.allCases.map { group in
      let names = views.filter { $0.group == group }.map { "`\($0.name)`" }
      return "| \(names.joined(separator: ", ")) | \(group.summary) |\n"
    }.joined()
  }

  /// The command lines on which tests, benchmarks and the support matrix try the views: words, of which the first is the
  /// view's name.
  public static func commands(_ views: [any KernelView.Type], _ subject: ViewSubject) -> [[String]] {
    views.flatMap { $0.commandLines(subject) }
  }
}

extension KernelView {
  /// The command lines of its samples.
  package static func commandLines(_ subject: ViewSubject) -> [[String]] {
    samples(subject).map { sample in
      let options = Options().all
      return [name]
        + sample.map { given in
          guard let option = options.first(where: { $0.name == given.name }), !option.isArgument else {
            return given.text
          }
          return option.isFlag ? "--\(given.name)" : "--\(given.name)=\(given.text)"
        }
    }
  }
}
