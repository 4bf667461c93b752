// Holds dashboards against the types that Grafana publishes for them, their LogQL, TraceQL and PromQL
// against Grafana's and Prometheus's grammars, and compose files against the Compose Specification.
//
//     node check.mjs PACKAGES FILE…
//
// PACKAGES is a folder with `node_modules`. Prints what is wrong, a line each, and what was held
// against what; ends with 1 when something is wrong.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const [packages, ...files] = process.argv.slice(2);
const root = resolve(packages);
const require = createRequire(join(root, 'package.json'));
const Ajv = require('ajv');
const { createGenerator } = require('ts-json-schema-generator');
const yaml = require('yaml');
const languages = {
  prometheus: require('@prometheus-io/lezer-promql').parser,
  loki: require('@grafana/lezer-logql').parser,
  tempo: require('@grafana/lezer-traceql').parser,
};

const types = join(root, 'node_modules/@grafana/schema/dist/types');
// What Grafana's own editor for Loki annotations keeps beside the fields of every annotation.
const LOKI_ANNOTATION = ['expr', 'titleFormat', 'textFormat', 'tagKeys'];
// Kinds of panels, and the folders of their types.
const PANELS = { timeseries: 'timeseries', stat: 'stat', table: 'table', logs: 'logs', 'state-timeline': 'statetimeline' };
// Of Prometheus's queries, Grafana's package has no type.
const QUERIES = { loki: 'LokiDataQuery', tempo: 'TempoQuery' };

const wrong = [];
let held = 0;
const validators = new Map();

function validator(path, type) {
  const key = `${path} ${type}`;
  if (!validators.has(key)) {
    const generator = createGenerator({
      path: join(types, path), type, expose: 'none', skipTypeCheck: true, additionalProperties: false,
      tsconfig: fileURLToPath(new URL('tsconfig.json', import.meta.url)),
    });
    const ajv = new Ajv({ allErrors: true, strict: false });
    validators.set(key, ajv.compile(generator.createSchema(type)));
  }
  return validators.get(key);
}

function hold(validate, value, where) {
  held += 1;
  if (validate(value)) return;
  for (const error of validate.errors) {
    const what = error.params.additionalProperty ?? error.params.allowedValues ?? '';
    wrong.push(`${where}${error.instancePath}: ${error.message} ${what}`);
  }
}

// Grafana fills variables in before it sends a query.
function filled(query) {
  return query
    .replace(/\$__(rate_interval|range|interval|auto)/g, '5m')
    .replace(/\$\{?\w+\}?/g, 'filled');
}

function parse(language, query, where) {
  held += 1;
  const text = filled(query);
  languages[language].parse(text).iterate({
    enter(node) {
      if (node.type.isError) wrong.push(`${where}: no ${language} query at ${node.from} of ${text}`);
    },
  });
}

function target(target, where) {
  const kind = target.datasource?.type;
  const query = kind === 'tempo' ? target.query : target.expr;
  if (!languages[kind] || typeof query !== 'string') {
    wrong.push(`${where}: no query of a known data source`);
    return;
  }
  parse(kind, query, where);
  if (QUERIES[kind]) {
    hold(validator(`raw/composable/${kind}/dataquery/x/types.gen.d.ts`, QUERIES[kind]), target, where);
  }
}

function panel(panel, where) {
  const folder = PANELS[panel.type];
  if (!folder) {
    wrong.push(`${where}: unknown kind of panel ${panel.type}`);
    return;
  }
  const path = `raw/composable/${folder}/panelcfg/x/types.gen.d.ts`;
  hold(validator(path, 'Options'), panel.options, `${where} options`);
  const custom = panel.fieldConfig?.defaults.custom;
  if (custom) hold(validator(path, 'FieldConfig'), custom, `${where} custom`);
  for (const one of panel.targets ?? []) target(one, `${where} ${one.refId}`);
}

function dashboard(value, file) {
  const plain = structuredClone(value);
  for (const annotation of plain.annotations?.list ?? []) {
    if (annotation.datasource.type === 'loki') {
      parse('loki', annotation.expr, `${file} ${annotation.name}`);
      for (const key of LOKI_ANNOTATION) delete annotation[key];
    }
  }
  hold(validator('raw/dashboard/x/types.gen.d.ts', 'Dashboard'), plain, file);
  for (const one of value.panels) panel(one, `${file} "${one.title}"`);
}

for (const file of files) {
  const text = readFileSync(file, 'utf8');
  if (file.endsWith('.json')) {
    dashboard(JSON.parse(text), file);
  } else {
    const schema = JSON.parse(readFileSync(join(root, 'node_modules/dclint/schemas/compose.schema.json'), 'utf8'));
    // Its address of draft 7 is not the one that Ajv knows.
    delete schema.$schema;
    const ajv = new Ajv({ allErrors: true, strict: false, validateFormats: false });
    hold(ajv.compile(schema), yaml.parse(text, { merge: true }), file);
  }
}
for (const line of wrong) console.log(line);
console.log(`${held} held, ${wrong.length} wrong`);
process.exit(wrong.length > 0 ? 1 : 0);
