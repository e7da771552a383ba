// What grass-fleet sends to browsers, and the templates of its pages: its program has them with it.

#include "fleet_files.h"

static const unsigned char fleet_css[] = {
#embed "pages/fleet.css"
};
static const unsigned char fleet_js[] = {
#embed "pages/fleet.js"
};
static const unsigned char icon_svg[] = {
#embed "pages/icon.svg"
};
static const unsigned char openapi_json[] = {
#embed "pages/openapi.json"
};
static const unsigned char top_mustache[] = {
#embed "pages/top.mustache"
};
static const unsigned char bottom_mustache[] = {
#embed "pages/bottom.mustache"
};
static const unsigned char fleet_mustache[] = {
#embed "pages/fleet.mustache"
};
static const unsigned char host_mustache[] = {
#embed "pages/host.mustache"
};
static const unsigned char view_mustache[] = {
#embed "pages/view.mustache"
};
static const unsigned char finding_mustache[] = {
#embed "pages/finding.mustache"
};
static const unsigned char findings_mustache[] = {
#embed "pages/findings.mustache"
};
static const unsigned char login_mustache[] = {
#embed "pages/login.mustache"
};
static const unsigned char visits_mustache[] = {
#embed "pages/visits.mustache"
};
static const unsigned char maintenance_mustache[] = {
#embed "pages/maintenance.mustache"
};
static const unsigned char images_mustache[] = {
#embed "pages/images.mustache"
};
static const unsigned char error_mustache[] = {
#embed "pages/error.mustache"
};

static const struct fleet_file files[] = {
    {"fleet.css", "text/css; charset=utf-8", fleet_css, sizeof fleet_css},
    {"fleet.js", "text/javascript; charset=utf-8", fleet_js, sizeof fleet_js},
    {"icon.svg", "image/svg+xml", icon_svg, sizeof icon_svg},
    {"openapi.json", "application/json", openapi_json, sizeof openapi_json},
    {"top.mustache", "text/html; charset=utf-8", top_mustache, sizeof top_mustache},
    {"bottom.mustache", "text/html; charset=utf-8", bottom_mustache, sizeof bottom_mustache},
    {"fleet.mustache", "text/html; charset=utf-8", fleet_mustache, sizeof fleet_mustache},
    {"host.mustache", "text/html; charset=utf-8", host_mustache, sizeof host_mustache},
    {"view.mustache", "text/html; charset=utf-8", view_mustache, sizeof view_mustache},
    {"finding.mustache", "text/html; charset=utf-8", finding_mustache, sizeof finding_mustache},
    {"findings.mustache", "text/html; charset=utf-8", findings_mustache, sizeof findings_mustache},
    {"login.mustache", "text/html; charset=utf-8", login_mustache, sizeof login_mustache},
    {"visits.mustache", "text/html; charset=utf-8", visits_mustache, sizeof visits_mustache},
    {"maintenance.mustache", "text/html; charset=utf-8", maintenance_mustache, sizeof maintenance_mustache},
    {"images.mustache", "text/html; charset=utf-8", images_mustache, sizeof images_mustache},
    {"error.mustache", "text/html; charset=utf-8", error_mustache, sizeof error_mustache},
};

const struct fleet_file *fleet_files(unsigned long *count) {
  *count = sizeof files / sizeof files[0];
  return files;
}
