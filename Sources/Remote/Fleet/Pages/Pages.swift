import Detection
import KernelViews
import Mustache
import Output

/// The pages, made of what the service knows.
struct Pages: Sendable {
  private let library: MustacheLibrary

  /// - Throws: where a template cannot be read, which is this program's own fault.
  init() throws {
    MustacheContentTypes.register(PageText(), named: PageText.name)
    var library = MustacheLibrary()
    for file in FleetFile.all where file.name.hasSuffix(".mustache") {
      try library.register(String(decoding: file.bytes, as: UTF8.self), named: String(file.name.dropLast(9)))
    }
    self.library = library
  }

  /// What every page has.
  struct Frame {
    var viewer: Viewer?
    /// The service's own fault.
    var problem: String?
    /// Seconds since 1970.
    var now: Double
  }

  private func page(_ name: String, _ title: String, _ frame: Frame, _ values: [String: Any]) -> String {
    var values = values
    values["title"] = "\(title) – GRASS"
    values["problem"] = frame.problem
    if let viewer = frame.viewer {
      values["viewer"] =
        ["name": viewer.name, "isAdmin": viewer.isAdmin, "hasSession": viewer.hasSession, "token": viewer.token]
        as [String: Any]
    }
    return library.render(values, withTemplate: name) ?? ""
  }

  // MARK: The fleet

  /// Which hosts somebody wants to see.
  struct Filter {
    var state: HostState?
    /// A part of a name, a label, a cause or a finding.
    var text = ""

    func takes(_ report: HostReport) -> Bool {
      if let state, report.standing.state != state { return false }
      guard !text.isEmpty else { return true }
      let text = text.lowercased()
      let words =
        [report.name, report.standing.cause] + report.labels.map { "\($0.key)=\($0.value)" }
        + report.open.flatMap { [$0.detector, $0.title] }
      return words.contains { $0.lowercased().contains(text) }
    }
  }

  /// The most hosts that a page shows: those behind them are found by filters.
  static let mostHosts = 300

  func fleet(
    _ reports: [HostReport], _ filter: Filter, inMaintenance: Set<String> = [], _ frame: Frame
  ) -> String {
    let wanted = reports.filter { filter.takes($0) }
    let shown = wanted.prefix(Self.mostHosts)
    let bad = reports.count { $0.standing.state != .alive }
    return page(
      "fleet", bad == 0 ? "Fleet" : "\(bad) of \(reports.count) hosts need a look", frame,
      [
        "states": HostState.allCases.sorted { $0.rank < $1.rank }.map { state -> [String: Any] in
          let count = reports.count { $0.standing.state == state }
          return [
            "name": state.rawValue, "count": count, "hasAny": count > 0, "isChosen": filter.state == state,
          ]
        },
        "q": filter.text, "isFiltered": filter.state != nil || !filter.text.isEmpty, "shown": shown.count,
        "total": reports.count, "left": wanted.count - shown.count, "isCut": wanted.count > shown.count,
        "hasHosts": !shown.isEmpty,
        "hosts": shown.map { report -> [String: Any] in
          var values = summary(report, frame.now)
          values["inMaintenance"] = inMaintenance.contains(report.name)
          return values
        },
      ])
  }

  private func summary(_ report: HostReport, _ now: Double) -> [String: Any] {
    var values: [String: Any] = [
      "name": report.name, "state": report.standing.state.rawValue, "cause": report.standing.cause,
      "sinceTime": Moments.text(report.standing.since), "sinceSpan": Moments.span(now - report.standing.since),
      "age": report.heartbeatAge.map { $0 < 3 ? "now" : "\(Moments.span($0)) ago" } ?? "none yet",
      "labels": report.labels.sorted { $0.key < $1.key }.map { ["name": $0.key, "value": $0.value] },
      "findings": Finding.Severity.allCases.reversed().compactMap { severity -> [String: Any]? in
        let count = report.open.count { $0.severity == severity }
        return count == 0 ? nil : ["severity": severity.rawValue, "count": count]
      },
    ]
    values["before"] = report.standing.before.map {
      ["state": $0.state.rawValue, "span": Moments.text($0.since), "cause": $0.cause]
    }
    values["spark"] = Self.spark(report.heartbeats)
    return values
  }

  /// A line of bars, one for each look, as high as its time's logarithm; nil where there are none.
  static func spark(_ heartbeats: HeartbeatHistory) -> [String: Any]? {
    let samples = heartbeats.samples
    guard !samples.isEmpty else { return nil }
    let times = samples.filter { $0 >= 0 }.sorted()
    let missed = samples.count - times.count
    let offset = 120 - samples.count
    // Two paths, however many looks there are: a page has many of these.
    var (answered, lost) = ("", "")
    for (index, sample) in samples.enumerated() {
      // 1 µs is the lowest bar, 1 s the highest.
      var steps: Float = 1
      var rest = max(1, sample)
      while rest >= 10, steps < 7 {
        rest /= 10
        steps += 1
      }
      let height = Int(min(20, max(2, (steps - 1 + rest / 10) * 20 / 7)))
      if sample < 0 {
        lost += "M\(index + offset) 20V0"
      } else {
        answered += "M\(index + offset) 20V\(20 - height)"
      }
    }
    let median =
      times.isEmpty
      ? "none answered" : "median \(time(times[times.count / 2])), longest \(time(times[times.count - 1]))"
    return [
      "answered": answered, "lost": lost,
      "label": "\(samples.count) looks, \(median)\(missed > 0 ? ", \(missed) without an answer" : "")",
    ]
  }

  private static func tenths(_ value: Float) -> String { "\((value * 10).rounded() / 10)" }

  private static func time(_ microseconds: Float) -> String {
    microseconds < 1000 ? "\(Int(microseconds)) µs" : "\(tenths(microseconds / 1000)) ms"
  }

  // MARK: A host

  func host(
    _ report: HostReport, findings: [KeptFinding], words: (line: String, text: String)?, history: [StateChange],
    images: [ImageRequest] = [], takesImages level: Int? = nil, maintenance: [MaintenanceWindow] = [], _ frame: Frame
  ) -> String {
    var values = summary(report, frame.now)
    values["meaning"] =
      report.standing.state.meaning.prefix(1).uppercased() + report.standing.state.meaning.dropFirst() + "."
    values["url"] = report.url
    values["seenTime"] = report.seen.map { Moments.text($0) }
    values["taken"] = report.taken
    values["missed"] = report.missed > 0 ? report.missed : nil
    values["suspended"] = report.suspended
    values["checkedSpan"] = report.lastCheck.map { Moments.span(frame.now - $0) }
    values["checkProblem"] = report.checkProblem
    values["kernel"] = report.kernel.map { "\($0.release) \($0.version)" }
    values["agent"] = report.isAgentUp.map { $0 ? "answers Prometheus" : "does not answer Prometheus" }
    values["maintenance"] = maintenance.map { window($0, frame) }
    if level != nil || !images.isEmpty {
      var part: [String: Any] = [
        "images": images.map { image($0, frame) }, "host": report.name, "token": frame.viewer?.token ?? "",
        "mayAsk": level != nil && frame.viewer?.isAdmin == true && images.allSatisfy(\.state.isOver),
        "hasImages": !images.isEmpty,
      ]
      part["levels"] = [(0, "everything: evidence"), (31, "only the kernel's own data: crash")].map {
        ["level": $0.0, "text": $0.1, "isChosen": $0.0 == level] as [String: Any]
      }
      values["acquisition"] = part
    }
    values["findings"] = findings.map { finding($0, frame, showsHost: false) }
    values["words"] = words.map { ["line": $0.line, "text": $0.text] }
    values["history"] = history.map { ["time": Moments.text($0.at), "state": $0.state, "cause": $0.cause] }
    values["hasHistory"] = !history.isEmpty
    values["views"] = KernelViews.all.map { ["name": $0.name, "summary": $0.summary, "host": report.name] }
    return page("host", "\(report.name) is \(report.standing.state.rawValue)", frame, values)
  }

  private func image(_ request: ImageRequest, _ frame: Frame) -> [String: Any] {
    var values: [String: Any] = [
      "number": request.number, "who": request.who, "state": request.state.rawValue,
      "time": Moments.text(request.asked), "level": request.level, "isRunning": request.state == .running,
      "done": request.done, "total": max(request.total, 1), "percent": Self.percent(request),
      "mayCancel": !request.state.isOver && frame.viewer?.isAdmin == true, "token": frame.viewer?.token ?? "",
    ]
    values["reason"] = request.reason.isEmpty ? nil : request.reason
    // A store's ID is known by its beginning; a file's name is not.
    values["image"] = request.image.map { $0.contains("@") ? $0 : String($0.prefix(12)) }
    values["problem"] = request.problem
    if request.state == .done {
      values["size"] = "\(request.total >> 20) MiB of memory, \(request.stored >> 20) MiB more on the disk"
    }
    return values
  }

  private static func percent(_ request: ImageRequest) -> Int {
    request.total == 0 ? 0 : Int(Double(request.done) / Double(request.total) * 100)
  }

  private func window(_ window: MaintenanceWindow, _ frame: Frame) -> [String: Any] {
    var values: [String: Any] = [
      "number": window.number, "host": window.host, "who": window.who, "from": Moments.text(window.from),
      "until": Moments.text(window.until), "isNow": window.from <= frame.now,
      "mayEnd": frame.viewer?.isAdmin == true, "token": frame.viewer?.token ?? "",
    ]
    values["comment"] = window.comment.isEmpty ? nil : window.comment
    return values
  }

  func maintenance(_ windows: [MaintenanceWindow], hosts: [String], _ frame: Frame) -> String {
    page(
      "maintenance", "Maintenance", frame,
      [
        "windows": windows.map { window($0, frame) }, "hasWindows": !windows.isEmpty,
        "mayPlan": frame.viewer?.isAdmin == true, "hosts": hosts, "token": frame.viewer?.token ?? "",
      ])
  }

  private func finding(_ finding: KeptFinding, _ frame: Frame, showsHost: Bool) -> [String: Any] {
    let details = FindingDetails(finding.json)
    let evidence = (details.evidence ?? []).prefix(50).map(\.text)
    var values: [String: Any] = [
      "number": finding.number, "title": finding.title, "severity": finding.severity, "kind": finding.kind,
      "confidence": finding.confidence, "detector": finding.detector, "host": finding.host, "showsHost": showsHost,
      "isClosed": !finding.isOpen, "firstTime": Moments.text(finding.first),
      "firstSpan": Moments.span(frame.now - finding.first), "lastTime": Moments.text(finding.last),
      "lastSpan": Moments.span(frame.now - finding.last), "evidence": Array(evidence),
      "hasEvidence": !evidence.isEmpty, "isOpenDetails": finding.isOpen && !showsHost,
      "techniques": details.attack ?? [],
      "mayAcknowledge": frame.viewer?.isAdmin == true && finding.isOpen && finding.acknowledgement == nil,
      "token": frame.viewer?.token ?? "",
    ]
    values["remedy"] = details.remedy
    values["acknowledgement"] = finding.acknowledgement.map { seen -> [String: Any] in
      var values: [String: Any] = [
        "who": seen.who, "time": Moments.text(seen.at), "span": Moments.span(frame.now - seen.at),
      ]
      values["comment"] = seen.comment.isEmpty ? nil : seen.comment
      values["until"] = seen.until.map { Moments.text($0) }
      return values
    }
    return values
  }

  func findings(_ findings: [KeptFinding], isOpenOnly: Bool, _ frame: Frame) -> String {
    page(
      "findings", "Findings", frame,
      ["findings": findings.map { finding($0, frame, showsHost: true) }, "isOpenOnly": isOpenOnly])
  }

  // MARK: A view

  /// The most rows that a page shows of each part of a view.
  static let mostRows = 2000

  func view(
    _ view: any KernelView.Type, of host: String, given: [(name: String, text: String)], table: ViewTable?,
    error: String?,
    _ frame: Frame
  ) -> String {
    var values: [String: Any] = [
      "host": host, "view": view.name, "summary": view.summary, "time": Moments.text(frame.now),
      "notes": (table?.notes ?? []) + (table?.shortcomings ?? []) + (table?.faults ?? []).prefix(20).map { "\($0)" },
      "sections": (table?.sections ?? []).map { section($0, view.name) },
    ]
    values["error"] = error
    let fields = Self.options(of: view).map { option -> [String: Any] in
      [
        "name": option.name, "isFlag": option.isFlag, "help": option.help, "isRequired": option.isRequired,
        "value": given.first { $0.name == option.name }?.text ?? (option.isFlag ? false as Any : "" as Any),
      ]
    }
    if !fields.isEmpty { values["options"] = ["fields": fields] }
    return page("view", "\(view.name) of \(host)", frame, values)
  }

  static func options(of view: any KernelView.Type) -> [any AnyViewOption] {
    func all<View: KernelView>(_ view: View.Type) -> [any AnyViewOption] { View.Options().all }
    return all(view)
  }

  private func section(_ section: ViewTable.Section, _ name: String) -> [String: Any] {
    var shown = section.columns.indices.filter { section.columns[$0].isInTable }
    if shown.isEmpty { shown = section.columns.indices.filter { section.columns[$0].isInJSON } }
    let rows = section.rows.prefix(Self.mostRows)
    return [
      "label": "Rows of \(name)", "count": section.rows.count, "isCut": rows.count < section.rows.count,
      "shown": rows.count,
      "columns": shown.map { index -> [String: Any] in
        let column = section.columns[index]
        return [
          "heading": column.heading.isEmpty ? column.key.uppercased() : column.heading,
          "isRight": column.isRightAligned,
        ]
      },
      "rows": rows.indices.map { row -> [String: Any] in
        [
          "cells": shown.map { column -> [String: Any] in
            let text = section.cells[row][column] ?? section.rows[row][column].cell
            return ["text": String(text.prefix(4000)), "isRight": section.columns[column].isRightAligned]
          }
        ]
      },
    ]
  }

  // MARK: People

  func logIn(error: String?, _ frame: Frame) -> String {
    var values: [String: Any] = [:]
    values["error"] = error
    return page("login", "Log in", frame, values)
  }

  /// Why there is no page.
  func error(_ status: String, _ what: String, _ frame: Frame) -> String {
    page("error", status, frame, ["headline": status, "what": what])
  }

  func visits(_ visits: [(at: Double, who: String, address: String, what: String)], _ frame: Frame) -> String {
    page(
      "visits", "Visits", frame,
      [
        "visits": visits.map {
          ["time": Moments.text($0.at), "who": $0.who, "address": $0.address, "what": $0.what]
        }
      ])
  }
}
