import Detection
import FoundationEssentials
import HTTPTypes
import Host
public import Hummingbird
import HummingbirdTLS
import KernelViews
public import Logging
import NIOCore
import Output
import ServiceLifecycle

/// The service's interfaces: pages, the API, metrics, events.
public final class FleetServer: Sendable {
  private let watch: FleetWatch
  private let pages: Pages
  private let doorkeeper: Doorkeeper
  private let kernels: OpenKernels
  private let views: ViewReader
  private let nodes: NodeReader
  private let listen: FleetConfiguration.Address
  /// What it shows who connects; nil where it speaks without TLS.
  private let certificate: ServerCertificate?
  /// Writes who looked, one after the other.
  private let noting: WorkPool
  private let noted = Locked<[String: Double]>([:])

  /// How many kernels are kept of which views and scrapes were asked.
  private static let mostKernels = 64

  /// - Throws: where there can be no threads.
  public init(_ watch: FleetWatch, _ configuration: FleetConfiguration) throws {
    self.watch = watch
    listen = configuration.listen
    certificate = try configuration.tls.map { try ServerCertificate($0) }
    pages = try Pages()
    doorkeeper = try Doorkeeper(configuration)
    kernels = OpenKernels(watch, most: Self.mostKernels)
    views = try ViewReader(kernels)
    nodes = try NodeReader(kernels)
    noting = try WorkPool(name: "visits", threads: 1)
  }

  /// Goes by another configuration; where it listens stays as it was.
  ///
  /// - Throws: where its certificate cannot be read any more: then it shows the one before.
  public func reload(_ new: FleetConfiguration) throws {
    doorkeeper.reload(new)
    if let certificate, let tls = new.tls { try certificate.reload(tls) }
  }

  /// `https` where it has a certificate of its own.
  public var scheme: String { certificate == nil ? "http" : "https" }

  /// Ends what is at work.
  public func finish() {
    views.finish()
    nodes.finish()
    noting.finish()
    kernels.removeAll()
    doorkeeper.finish()
  }

  /// The application that answers.
  ///
  /// - Parameters:
  ///   - log: where faults go.
  ///   - onRunning: called with the port once it answers.
  /// - Returns: it, to be run.
  /// - Throws: where its certificate is of no use.
  public func application(
    log: Logger, onRunning: @escaping @Sendable (Int) -> Void
  ) throws -> some ApplicationProtocol {
    Application(
      router: router(), server: try certificate.map { try .tls(tlsConfiguration: $0.configuration) } ?? .http1(),
      configuration: .init(address: .hostname(listen.host, port: listen.port), serverName: nil),
      onServerRunning: { channel in onRunning(channel.localAddress?.port ?? 0) }, logger: log)
  }

  // MARK: Routes

  func router() -> Router<FleetContext> {
    let router = Router(context: FleetContext.self, options: [.autoGenerateHeadEndpoints])
    router.add(
      middleware: Gate(doorkeeper: doorkeeper, listen: listen) { [self] status, what, context in
        // Who it is may not be known yet.
        let frame = Pages.Frame(
          viewer: context.viewer, problem: context.viewer == nil ? nil : watch.problem, now: Moments.utc)
        return Self.html(pages.error("\(status.code) \(status.reasonPhrase)", what, frame), status)
      })
    staticFiles(router)
    pages(router)
    api(router)
    router.get("metrics") { [self] _, _ in
      Response(
        status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
        body: .init(
          byteBuffer: .init(
            string: MetricsText.fleet(
              watch.reports(), version: Version.current, followers: watch.events.count, steps: watch.steps,
              failedWrites: watch.failedWrites, hasProblem: !watch.storeWorks, logs: watch.logs.figures,
              witnessWorks: watch.witnessWorks, images: watch.images.isOn ? watch.images.figures : nil))))
    }
    router.get("probe") { [self] request, _ in try await probe(request) }
    router.get("sd") { [self] _, _ in
      Self.json(
        .array(
          watch.reports().sorted { $0.name < $1.name }.map { report in
            .object([
              ("targets", .array([.string(report.name)])),
              (
                "labels",
                .object(
                  [("__meta_grass_url", .string(report.url))]
                    + report.labels.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) })
              ),
            ])
          }))
    }
    router.get("events") { [self] _, _ in try events() }
    router.get("healthz") { [self] _, _ in
      Response(
        status: watch.storeWorks ? .ok : .serviceUnavailable, headers: [.contentType: "text/plain"],
        body: .init(byteBuffer: .init(string: watch.storeWorks ? "ok\n" : "the database takes nothing\n")))
    }
    return router
  }

  /// What node_exporter would say of a host, beside the host's state.
  private func probe(_ request: Request) async throws -> Response {
    guard let name = Query(request.uri.query)["target"] else {
      throw HTTPError(.badRequest, message: "say of which host: /probe?target=NAME")
    }
    guard watch.report(name) != nil else {
      throw HTTPError(.notFound, message: "there is no such host in this fleet")
    }
    // Prometheus says how long it waits; a little of that is the way's.
    let header = HTTPField.Name("X-Prometheus-Scrape-Timeout-Seconds").flatMap { request.headers[$0] }
    let patience = header.flatMap { Double($0) }.map { min(max($0 * 0.9, 0.1), 60) } ?? 9
    let scrape = await nodes.scrape(name, within: patience)
    // The state as it is now, behind the look.
    guard let report = watch.report(name) else {
      throw HTTPError(.notFound, message: "there is no such host in this fleet")
    }
    return Response(
      status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
      body: .init(byteBuffer: .init(string: MetricsText.probe(report, scrape))))
  }

  private func staticFiles(_ router: Router<FleetContext>) {
    for name in ["fleet.css", "fleet.js", "icon.svg"] {
      router.get("static/\(name)") { _, _ in Self.file(name) }
    }
  }

  /// One of the files that this program has with it.
  private static func file(_ name: String) -> Response {
    guard let file = FleetFile.all.first(where: { $0.name == name }) else {
      preconditionFailure("there is no file \(name) in this program")
    }
    return Response(
      status: .ok, headers: [.contentType: file.type, .cacheControl: "max-age=300"],
      body: .init(byteBuffer: .init(bytes: file.bytes)))
  }

  // MARK: Pages

  private func frame(_ context: FleetContext) -> Pages.Frame {
    Pages.Frame(viewer: context.viewer, problem: watch.problem, now: Moments.utc)
  }

  private static func html(_ text: String, _ status: HTTPResponse.Status = .ok) -> Response {
    Response(
      status: status, headers: [.contentType: "text/html; charset=utf-8"], body: .init(byteBuffer: .init(string: text)))
  }

  private func pages(_ router: Router<FleetContext>) {
    router.get("") { [self] request, context in
      var filter = Pages.Filter()
      let query = Query(request.uri.query)
      filter.state = query["state"].flatMap { HostState(rawValue: $0) }
      filter.text = String((query["q"] ?? "").prefix(200))
      let frame = frame(context)
      // Without the database the page has all but this.
      let windows = (try? watch.store.maintenance(now: frame.now)) ?? []
      let inMaintenance = Set(windows.filter { $0.from <= frame.now }.map(\.host))
      return Self.html(pages.fleet(watch.reports(), filter, inMaintenance: inMaintenance, frame))
    }
    router.get("hosts/:name") { [self] request, context in
      let report = try report(context)
      note("looked at \(report.name)", context)
      let frame = frame(context)
      let kept = try storing { () throws(StoreError) in
        (
          try watch.store.findings(of: report.name, now: frame.now, limit: 100),
          try watch.store.words(of: report.name), try watch.store.states(of: report.name, limit: 50),
          try images(of: report.name, limit: 20),
          try watch.store.maintenance(now: frame.now).filter { $0.host == report.name }
        )
      }
      return Self.html(
        pages.host(
          report, findings: kept.0, words: kept.1, history: kept.2, images: kept.3,
          takesImages: watch.images.isOn ? watch.images.level : nil, maintenance: kept.4, frame))
    }
    router.get("hosts/:name/views/:view") { [self] request, context in
      let report = try report(context)
      guard let view = context.parameters.get("view").flatMap({ KernelViews.view(named: $0) }) else {
        throw HTTPError(.notFound, message: "there is no such view")
      }
      note("read \(view.name) of \(report.name)", context)
      let options = Self.options(request, of: view)
      // What a view needs first is asked for, not complained of.
      let isAsking = Pages.options(of: view).contains { option in
        option.isRequired && !options.contains { $0.name == option.name }
      }
      if isAsking {
        return Self.html(pages.view(view, of: report.name, given: options, table: nil, error: nil, frame(context)))
      }
      do throws(ViewReader.Failure) {
        let table = try await views.table(report.name, view.name, options: options)
        return Self.html(pages.view(view, of: report.name, given: options, table: table, error: nil, frame(context)))
      } catch {
        return Self.html(
          pages.view(view, of: report.name, given: options, table: nil, error: error.description, frame(context)),
          Self.status(error))
      }
    }
    router.get("findings") { [self] request, context in
      let isOpenOnly = Query(request.uri.query)["open"] != "no"
      let frame = frame(context)
      let findings = try storing { () throws(StoreError) in
        try watch.store.findings(isOpen: isOpenOnly, now: frame.now, limit: 200)
      }
      return Self.html(pages.findings(findings, isOpenOnly: isOpenOnly, frame))
    }
    router.get("maintenance") { [self] _, context in
      let frame = frame(context)
      let windows = try storing { () throws(StoreError) in try watch.store.maintenance(now: frame.now) }
      return Self.html(pages.maintenance(windows, hosts: watch.reports().map(\.name).sorted(), frame))
    }
    router.post("maintenance") { [self] request, context -> Response in
      struct Form: Decodable {
        var token: String?
        var host: String
        var comment: String?
        var after: Double?
        var hours: Double
      }
      let form: Form = try await Self.form(request, context)
      try check(form.token, context)
      guard watch.report(form.host) != nil else {
        throw HTTPError(.notFound, message: "there is no such host in this fleet")
      }
      _ = try plan(form.host, after: form.after, hours: form.hours, comment: form.comment, context)
      return .redirect(to: "/maintenance", type: .normal)
    }
    router.post("maintenance/:number/end") { [self] request, context -> Response in
      struct Form: Decodable { var token: String? }
      let form: Form = try await Self.form(request, context)
      try check(form.token, context)
      try endMaintenance(context)
      return .redirect(to: "/maintenance", type: .normal)
    }
    router.post("hosts/:name/images") { [self] request, context -> Response in
      struct Form: Decodable {
        var token: String?
        var reason: String?
        var level: Int?
      }
      let form: Form = try await Self.form(request, context)
      try check(form.token, context)
      let image = try askForImage(context, reason: form.reason, level: form.level)
      return .redirect(to: "/hosts/\(image.host)#images", type: .normal)
    }
    router.post("images/:number/cancel") { [self] request, context -> Response in
      struct Form: Decodable { var token: String? }
      let form: Form = try await Self.form(request, context)
      try check(form.token, context)
      let image = try cancelImage(context)
      return .redirect(to: "/hosts/\(image.host)#images", type: .normal)
    }
    router.get("visits") { [self] _, context in
      try admin(context)
      let visits = try storing { () throws(StoreError) in try watch.store.visits() }
      return Self.html(pages.visits(visits, frame(context)))
    }
    router.post("findings/:number/acknowledge") { [self] request, context -> Response in
      struct Form: Decodable {
        var token: String?
        var comment: String?
        var hours: Double?
      }
      let form: Form = try await Self.form(request, context)
      try check(form.token, context)
      let finding = try await acknowledge(
        context, comment: form.comment ?? "", hours: form.hours.flatMap { $0 > 0 ? $0 : nil })
      return .redirect(to: "/hosts/\(finding.host)", type: .normal)
    }
    router.get("login") { [self] _, context -> Response in
      guard doorkeeper.hasUsers else { return Response.redirect(to: "/", type: .normal) }
      return Self.html(pages.logIn(error: nil, frame(context)))
    }
    router.post("login") { [self] request, context -> Response in
      struct Form: Decodable {
        var name: String
        var password: String
      }
      // A form of another site cannot log somebody in as somebody else: browsers say where it comes from.
      if let name = HTTPField.Name("Sec-Fetch-Site"), let site = request.headers[name],
        !["same-origin", "none"].contains(site)
      {
        throw HTTPError(.forbidden, message: "log in on this service's own page")
      }
      let form: Form = try await Self.form(request, context)
      guard !doorkeeper.isShutOut(context.address) else {
        return Self.html(
          pages.logIn(error: "Too many tries from your address. Wait five minutes.", frame(context)), .tooManyRequests)
      }
      guard let cookie = await doorkeeper.logIn(form.name, form.password, from: context.address) else {
        note("failed to log in as \(form.name.prefix(100))", context)
        return Self.html(pages.logIn(error: "Name and password do not go together.", frame(context)), .unauthorized)
      }
      note("logged in as \(form.name)", context)
      var response = Response.redirect(to: "/", type: .normal)
      response.headers[.setCookie] =
        "\(Doorkeeper.cookie)=\(cookie); Path=/; HttpOnly; SameSite=Strict; Max-Age=\(Int(Doorkeeper.sessionTime))"
        + (isSecure(request) ? "; Secure" : "")
      return response
    }
    router.post("logout") { [self] request, context -> Response in
      struct Form: Decodable { var token: String? }
      let form: Form = try await Self.form(request, context)
      try check(form.token, context)
      if let cookie = request.cookies[Doorkeeper.cookie]?.value { doorkeeper.logOut(cookie) }
      var response = Response.redirect(to: "/login", type: .normal)
      response.headers[.setCookie] = "\(Doorkeeper.cookie)=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
      return response
    }
  }

  /// Whether a proxy says that its own side is encrypted.
  private func isSecure(_ request: Request) -> Bool {
    certificate != nil
      || HTTPField.Name("X-Forwarded-Proto").flatMap { request.headers[$0] }?.lowercased() == "https"
  }

  private static func form<Form: Decodable>(_ request: Request, _ context: FleetContext) async throws -> Form {
    let type = request.headers[.contentType]?.lowercased() ?? ""
    guard type.hasPrefix("application/x-www-form-urlencoded") else {
      throw HTTPError(.unsupportedMediaType, message: "send a form")
    }
    let buffer = try await request.body.collect(upTo: context.maxUploadSize)
    do { return try URLEncodedFormDecoder().decode(Form.self, from: String(buffer: buffer)) } catch {
      throw HTTPError(.badRequest, message: "a field of the form is missing or wrong")
    }
  }

  // MARK: The API

  private func api(_ router: Router<FleetContext>) {
    let api = router.group("api/v1")
    api.get("openapi.json") { _, _ in Self.file("openapi.json") }
    api.get("fleet") { [self] _, _ in
      Self.json(
        .object([
          ("problem", watch.problem.map { .string($0) } ?? .null),
          ("hosts", .array(watch.reports().map { FleetJSON.host($0) })),
        ]))
    }
    api.get("hosts/:name") { [self] request, context in
      let report = try report(context)
      note("looked at \(report.name)", context)
      let now = Moments.utc
      let (findings, states) = try storing { () throws(StoreError) in
        (try watch.store.findings(of: report.name, now: now), try watch.store.states(of: report.name))
      }
      var bytes = FleetJSON.bytes(FleetJSON.host(report)).dropLast() + Array(", \"findings\": ".utf8)
      bytes += Self.array(findings.map { FleetJSON.finding($0) })
      bytes += Array(", \"history\": ".utf8)
      bytes += FleetJSON.bytes(
        .array(
          states.map {
            .object([("at", .number($0.at)), ("state", .string($0.state)), ("cause", .string($0.cause))])
          }))
      return Self.json(Array(bytes) + Array("}".utf8))
    }
    api.get("hosts/:name/views/:view") { [self] request, context in
      let report = try report(context)
      let name = context.parameters.get("view") ?? ""
      guard let view = KernelViews.view(named: name) else {
        throw HTTPError(.notFound, message: "there is no such view")
      }
      note("read \(name) of \(report.name)", context)
      do throws(ViewReader.Failure) {
        let table = try await views.table(report.name, name, options: Self.options(request, of: view, areStrict: true))
        return Self.json(Self.table(table))
      } catch {
        throw HTTPError(Self.status(error), message: error.description)
      }
    }
    api.get("findings") { [self] request, _ in
      let query = Query(request.uri.query)
      let open = query["open"] ?? "yes"
      guard ["yes", "no"].contains(open) else { throw HTTPError(.badRequest, message: "open is yes or no") }
      let limit = query["limit"].map { Int($0) } ?? 500
      guard let limit, (1...5000).contains(limit) else {
        throw HTTPError(.badRequest, message: "limit is from 1 to 5000")
      }
      let findings = try storing { () throws(StoreError) in
        try watch.store.findings(of: query["host"], isOpen: open == "yes", now: Moments.utc, limit: limit)
      }
      return Self.json(Self.array(findings.map { FleetJSON.finding($0) }))
    }
    api.get("findings/:number") { [self] _, context in Self.json(FleetJSON.finding(try finding(context))) }
    api.post("findings/:number/acknowledge") { [self] request, context in
      struct Wish: Decodable {
        var comment: String?
        var hours: Double?
      }
      let wish: Wish = try await Self.object(request, context)
      if let hours = wish.hours, !(hours > 0 && hours <= 24 * 366) {
        throw HTTPError(.badRequest, message: "hours is more than 0, and at most a year's")
      }
      return Self.json(
        FleetJSON.finding(try await acknowledge(context, comment: wish.comment ?? "", hours: wish.hours)))
    }
    api.get("maintenance") { [self] _, _ in
      let windows = try storing { () throws(StoreError) in try watch.store.maintenance(now: Moments.utc) }
      return Self.json(.array(windows.map { FleetJSON.maintenance($0) }))
    }
    api.post("maintenance/:number/end") { [self] _, context in
      let host = try endMaintenance(context)
      return Self.json(.object([("host", .string(host))]))
    }
    api.get("images") { [self] request, _ in
      let host = Query(request.uri.query)["host"]
      let requests = try storing { () throws(StoreError) in try images(of: host, limit: 500) }
      return Self.json(.array(requests.map { FleetJSON.image($0) }))
    }
    api.post("hosts/:name/images") { [self] request, context in
      struct Wish: Decodable {
        var reason: String?
        var level: Int?
      }
      let wish: Wish = try await Self.object(request, context)
      return Self.json(FleetJSON.image(try askForImage(context, reason: wish.reason, level: wish.level)))
    }
    api.post("images/:number/cancel") { [self] _, context in Self.json(FleetJSON.image(try cancelImage(context))) }
    api.post("hosts/:name/maintenance") { [self] request, context in
      struct Wish: Decodable {
        var hours: Double
        var after: Double?
        var comment: String?
      }
      let report = try report(context)
      let wish: Wish = try await Self.object(request, context)
      let until = try plan(report.name, after: wish.after, hours: wish.hours, comment: wish.comment, context)
      return Self.json(.object([("host", .string(report.name)), ("until", .number(until))]))
    }
    api.get("visits") { [self] _, context in
      try admin(context)
      let visits = try storing { () throws(StoreError) in try watch.store.visits() }
      return Self.json(
        .array(
          visits.map {
            .object([
              ("at", .number($0.at)), ("who", .string($0.who)), ("address", .string($0.address)),
              ("what", .string($0.what)),
            ])
          }))
    }
  }

  private static func json(_ value: JSON) -> Response { json(FleetJSON.bytes(value)) }

  private static func json(_ bytes: [UInt8]) -> Response {
    Response(
      status: .ok, headers: [.contentType: "application/json"],
      body: .init(byteBuffer: .init(bytes: bytes + [UInt8(ascii: "\n")])))
  }

  private static func array(_ elements: [[UInt8]]) -> [UInt8] {
    Array("[".utf8) + Array(elements.joined(separator: Array(",\n".utf8))) + Array("]".utf8)
  }

  private static func object<Wish: Decodable>(_ request: Request, _ context: FleetContext) async throws -> Wish {
    // No other site's form sends this type: a browser asks first, and is not told that it may.
    guard request.headers[.contentType]?.lowercased().hasPrefix("application/json") == true else {
      throw HTTPError(.unsupportedMediaType, message: "send JSON")
    }
    let buffer = try await request.body.collect(upTo: context.maxUploadSize)
    do { return try JSONDecoder().decode(Wish.self, from: Data(buffer.readableBytesView)) } catch {
      throw HTTPError(.badRequest, message: "a member of the object is missing or wrong")
    }
  }

  private static func table(_ table: ViewTable) -> JSON {
    .object([
      ("view", .string(table.view)),
      ("notes", .array((table.notes + table.shortcomings).map { .string($0) })),
      ("faults", .array(table.faults.prefix(100).map { .string("\($0)") })),
      (
        "sections",
        .array(
          table.sections.map { section in
            let shown = section.columns.indices.filter { section.columns[$0].isInJSON }
            return .array(
              section.rows.prefix(20_000).map { row in
                .object(shown.filter { row[$0] != .absent }.map { (section.columns[$0].key, JSON(row[$0])) })
              })
          })
      ),
    ])
  }

  // MARK: Pieces

  /// The report of the host that a request is about.
  private func report(_ context: FleetContext) throws -> HostReport {
    guard let report = context.parameters.get("name").flatMap({ watch.report($0) }) else {
      throw HTTPError(.notFound, message: "there is no such host in this fleet")
    }
    return report
  }

  private func finding(_ context: FleetContext) throws -> KeptFinding {
    let found = try context.parameters.get("number").flatMap { Int64($0) }.flatMap { number in
      try storing { () throws(StoreError) in try watch.store.finding(number, now: Moments.utc) }
    }
    guard let found else { throw HTTPError(.notFound, message: "there is no such finding") }
    return found
  }

  private func acknowledge(_ context: FleetContext, comment: String, hours: Double?) async throws -> KeptFinding {
    let viewer = try admin(context)
    let finding = try finding(context)
    let now = Moments.utc
    let comment = String(comment.prefix(500))
    _ = try storing { () throws(StoreError) in
      try watch.store.acknowledge(
        finding.number,
        Acknowledgement(
          who: viewer.name, comment: comment, at: now, until: hours.map { now + min($0, 24 * 366) * 3600 }))
    }
    note("acknowledged finding \(finding.number) of \(finding.host)", context)
    watch.events.publish(
      FleetEvent(
        .acknowledgement, host: finding.host,
        json: FleetJSON.bytes(
          .object([
            ("host", .string(finding.host)), ("number", .signed(finding.number)), ("who", .string(viewer.name)),
            ("comment", .string(comment)),
          ]))))
    return try self.finding(context)
  }

  /// Plans maintenance of a host: so many hours, after so many from now.
  ///
  /// - Returns: its end, in seconds since 1970.
  private func plan(
    _ host: String, after: Double?, hours: Double, comment: String?, _ context: FleetContext
  ) throws -> Double {
    let viewer = try admin(context)
    guard hours > 0, hours <= 24 * 366, (0...24 * 366).contains(after ?? 0) else {
      throw HTTPError(.badRequest, message: "hours is more than 0, and at most a year's; after is from 0 to a year's")
    }
    let start = Moments.utc + (after ?? 0) * 3600
    try storing { () throws(StoreError) in
      try watch.store.plan(
        host, from: start, until: start + hours * 3600, who: viewer.name, comment: String((comment ?? "").prefix(500)))
    }
    note("planned maintenance of \(host) for \(hours) h", context)
    publishMaintenance(host)
    return start + hours * 3600
  }

  @discardableResult private func endMaintenance(_ context: FleetContext) throws -> String {
    try admin(context)
    let host = try context.parameters.get("number").flatMap { Int64($0) }.flatMap { number in
      try storing { () throws(StoreError) in try watch.store.endMaintenance(number, now: Moments.utc) }
    }
    guard let host else { throw HTTPError(.notFound, message: "there is no such maintenance that is not over") }
    note("ended maintenance of \(host)", context)
    publishMaintenance(host)
    return host
  }

  /// Has pages read anew what is planned.
  private func publishMaintenance(_ host: String) {
    watch.events.publish(
      FleetEvent(
        .fleet, host: host, json: FleetJSON.bytes(.object([("host", .string(host)), ("maintenance", .bool(true))]))))
  }

  /// Images of a host, or of all, as they are at the moment, the newest first.
  private func images(of host: String?, limit: Int) throws(StoreError) -> [ImageRequest] {
    let open = Dictionary(watch.images.requests.map { ($0.number, $0) }) { first, _ in first }
    return try watch.store.images(of: host, limit: limit).map { open[$0.number] ?? $0 }
  }

  private func askForImage(_ context: FleetContext, reason: String?, level: Int?) throws -> ImageRequest {
    let report = try report(context)
    let viewer = try admin(context)
    guard (0...31).contains(level ?? 0) else { throw HTTPError(.badRequest, message: "level is from 0 to 31") }
    do {
      let request = try watch.images.ask(
        report.name, who: viewer.name, reason: String((reason ?? "").prefix(500)), level: level ?? watch.images.level)
      note("asked for an image of \(report.name)", context)
      return request
    } catch let refusal as ImageTaker.Refusal {
      throw HTTPError(.conflict, message: refusal.description)
    } catch {
      throw HTTPError(.serviceUnavailable, message: "\(error)")
    }
  }

  private func cancelImage(_ context: FleetContext) throws -> ImageRequest {
    try admin(context)
    let number = context.parameters.get("number").flatMap { Int64($0) }
    guard let number, let request = watch.images.requests.first(where: { $0.number == number }),
      watch.images.cancel(number)
    else { throw HTTPError(.notFound, message: "there is no such image that is not over") }
    note("ended an image of \(request.host)", context)
    return request
  }

  /// - Throws: where who asks may not change anything.
  @discardableResult private func admin(_ context: FleetContext) throws -> Viewer {
    guard let viewer = context.viewer, viewer.isAdmin else {
      throw HTTPError(.forbidden, message: "your user may only read")
    }
    return viewer
  }

  /// - Throws: where a form is not one of this service's own pages.
  private func check(_ token: String?, _ context: FleetContext) throws {
    guard let token, let viewer = context.viewer, SecretWords.areEqual(token.utf8, viewer.token.utf8) else {
      throw HTTPError(
        .forbidden, message: "this form is not of a page of this service, or it is too old: load the page again")
    }
  }

  private func storing<Value>(_ body: () throws(StoreError) -> Value) throws -> Value {
    do throws(StoreError) { return try body() } catch {
      throw HTTPError(.serviceUnavailable, message: error.description)
    }
  }

  /// Keeps who looked at what, some time later; the same again within a minute is not kept again.
  private func note(_ what: String, _ context: FleetContext) {
    let (who, address, now) = (context.viewer?.name ?? "nobody", context.address, Moments.utc)
    let isNew = noted.withLock { noted in
      if noted.count > 10_000 { noted = noted.filter { now - $0.value < 60 } }
      let key = "\(who)\n\(address)\n\(what)"
      if let before = noted[key], now - before < 60 { return false }
      noted[key] = now
      return true
    }
    guard isNew else { return }
    noting.add { [watch] in try? watch.store.note(what, by: who, from: address, at: now) }
  }

  /// What a query says of a view's options.
  private static func options(
    _ request: Request, of view: any KernelView.Type, areStrict: Bool = false
  ) -> [(name: String, text: String)] {
    let known = Set(Pages.options(of: view).map(\.name))
    return Query(request.uri.query).items.compactMap { name, value in
      guard areStrict || known.contains(name), !value.isEmpty, value.utf8.count <= 1000 else { return nil }
      return (name, value)
    }
  }

  private static func status(_ failure: ViewReader.Failure) -> HTTPResponse.Status {
    switch failure.reason {
    case .noSuchHost, .noSuchView: .notFound
    case .badOptions: .badRequest
    case .busy: .serviceUnavailable
    case .failed: .badGateway
    }
  }

  // MARK: Events

  /// Events as they come (SSE), and a comment every ten seconds, so that who is gone is noticed.
  private func events() throws -> Response {
    guard let stream = watch.events.follow() else {
      throw HTTPError(.serviceUnavailable, message: "too many follow already")
    }
    return Response(
      status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"],
      body: .init { writer in
        try await writer.write(ByteBuffer(string: "retry: 1000\n\n"))
        for await item in merged(stream).cancelOnGracefulShutdown() {
          switch item {
          case .event(let event):
            var buffer = ByteBuffer(string: "event: \(event.kind.rawValue)\ndata: ")
            buffer.writeBytes(event.json)
            buffer.writeString("\n\n")
            try await writer.write(buffer)
          case .pause: try await writer.write(ByteBuffer(string: ": \n\n"))
          }
        }
        try await writer.finish(nil)
      })
  }
}

private enum EventItem: Sendable {
  case event(FleetEvent)
  case pause
}

/// Events, and between them a sign every ten seconds.
private func merged(_ stream: AsyncStream<FleetEvent>) -> AsyncStream<EventItem> {
  AsyncStream(bufferingPolicy: .bufferingNewest(256)) { continuation in
    let events = Task {
      for await event in stream { continuation.yield(.event(event)) }
      continuation.finish()
    }
    let pauses = Task {
      while !Task.isCancelled {
        try? await Task.sleep(for: .seconds(10))
        continuation.yield(.pause)
      }
    }
    continuation.onTermination = { _ in
      events.cancel()
      pauses.cancel()
    }
  }
}
