"Kaggle, as far as the project knows it: a server on 127.0.0.1 that the real client talks to as if it were its proxy."
import json
from base64 import b64encode
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

from commands import QUICK

RULES = 'You must accept this competition\'s rules before you\'ll be able to download files.'
KEY = 'Basic ' + b64encode(b'me:secret').decode()
STATUS = {401: 'Unauthenticated', 403: RULES, 429: 'Too many requests'}


class Refusal(Exception):
    "An answer with another status than 200."
    def __init__(self, status, message=None, **headers): self.status, self.message, self.headers = status, message or STATUS[status], headers


class Handler(BaseHTTPRequestHandler):
    "Hands what is asked to the server's methods of that name."
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args): pass

    def body(self): return self.rfile.read(int(self.headers.get('Content-Length') or 0)) if 'chunked' not in self.headers.get('Transfer-Encoding', '') else self.chunks()

    def chunks(self):
        content = b''
        while size := int(self.rfile.readline(), 16): content, _ = content + self.rfile.read(size), self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self, status, content, kind='application/json', **headers):
        self.send_response(status)
        for name, value in {'Content-Type': kind, 'Content-Length': len(content), **headers}.items(): self.send_header(name.replace('_', '-'), str(value))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        name, request = urlsplit(self.path).path.rpartition('/')[2], json.loads(self.body() or b'{}')
        self.server.asked.append(name)
        try:
            if self.server.mode == 'unauthorised' or self.headers.get('Authorization') != KEY: raise Refusal(401)
            if self.server.mode == 'no JSON': return self.answer(200, b'<html>Please sign in to this network</html>', 'text/html')
            self.server.be_busy(name)
            result = getattr(self.server, name)(request)
        except Refusal as refusal:
            return self.answer(refusal.status, json.dumps({'code': refusal.status, 'message': refusal.message}).encode(), **refusal.headers)
        if isinstance(result, str): return self.answer(302, b'', Location=result)
        self.answer(200, json.dumps(result).encode())

    def do_PUT(self):
        self.server.uploads[self.path.rpartition('/')[2]] = self.body()
        self.answer(500 if self.server.mode == 'upload fails' else 200, b'')

    def do_GET(self):
        if '/kernels/logs/stream/' in self.path: return self.send_log()
        name = self.path.rpartition('/')[2]
        self.server.asked.append(f'GET {name}')
        if name.endswith('.zip'): return self.send_zip()
        content = None if self.server.mode == 'output fails' and name == 'submission.csv' else self.server.outputs.get(name)
        self.answer(404 if content is None else 200, content or b'', 'application/octet-stream')

    def send_log(self):
        "A notebook's log, as a stream of events; cut off in the middle the first time where the mode says so."
        self.server.asked.append('log')
        events = [{'stream_name': 'stdout', 'time': seconds, 'data': text} for seconds, text in ((0.5, 'Training on Tesla T4.\n'), (75.2, 'epoch 1\n'))]
        cut = self.server.mode == 'log cut off' and self.server.asked.count('log') == 1
        text = ''.join(f'data: {json.dumps(event)}\n\n' for event in (events[:1] if cut else events)) + ('' if cut else 'data: END_OF_LOG\n\n')
        self.send_response(200)
        for header, value in {'Content-Type': 'text/event-stream', 'Content-Length': len(text) + 100*cut}.items(): self.send_header(header, str(value))
        self.end_headers()
        self.wfile.write(text.encode())
        if cut: self.close_connection = True

    def send_zip(self):
        "The competition's zip, or what follows a byte of it; cut off in the middle where the mode says so."
        start = int(self.headers.get('Range', 'bytes=0-')[6:-1])
        self.server.starts.append(start)
        rest = self.server.zip[start:]
        cut = self.server.mode == 'always cut off' or (self.server.mode == 'cut off once' and len(self.server.starts) == 1)
        self.send_response(206 if start else 200)
        headers = {'Content-Type': 'application/zip', 'Content-Length': len(rest), 'Accept-Ranges': 'bytes', 'ETag': '"1"', 'Last-Modified': 'Wed, 05 Mar 2025 10:00:00 GMT'}
        if start: headers['Content-Range'] = f'bytes {start}-{len(self.server.zip) - 1}/{len(self.server.zip)}'
        for header, value in headers.items(): self.send_header(header, str(value))
        self.end_headers()
        self.wfile.write(rest[:len(rest)//2] if cut else rest)
        if cut: self.close_connection = True


class Kaggle(ThreadingHTTPServer):
    """The service. `mode` is 'fine', or one of: 'no rules', 'unauthorised', 'no JSON', 'cut off once', 'always cut off', 'upload fails', 'limit', 'refused',
    'slow', 'never scored', 'lists nothing', 'kernel fails', 'no output', 'no competition', 'output fails', 'log cut off',
    'status unknown', 'never ends', 'data set is made', 'notebooks only'. `busy` has the names of calls that are refused, once each, since Kaggle is asked too often,
    `failing` those that fail once."""
    daemon_threads = True

    def __init__(self, zip_bytes):
        super().__init__(('127.0.0.1', 0), Handler)
        self.zip, self.mode, self.score = zip_bytes, 'fine', '0.10000'
        self.busy, self.failing, self.retry_after = [], [], '1'
        self.run_kernel = None # from the notebook's text to the contents of the files that it leaves, by name
        self.asked, self.starts, self.submissions = [], [], []
        self.uploads, self.names, self.datasets, self.kernels, self.outputs = {}, {}, {}, {}, {}
        self.url = f'http://127.0.0.1:{self.server_port}'
        Thread(target=self.serve_forever, args=[0.02], daemon=True).start()

    def handle_error(self, request, client_address): pass # a client that was killed

    def environment(self):
        "What makes Kaggle's client talk to this server."
        return {'KAGGLE_API_ENVIRONMENT': 'LOCALHOST', 'KAGGLE_USERNAME': 'me', 'KAGGLE_KEY': 'secret', 'http_proxy': self.url, 'no_proxy': '', 'NO_PROXY': '',
                'PYTHONPATH': str(QUICK)}

    def be_busy(self, name):
        if name in self.failing:
            self.failing.remove(name)
            raise Refusal(502, 'Bad Gateway')
        if name not in self.busy: return
        self.busy.remove(name)
        raise Refusal(429, Retry_After=self.retry_after)

    def DownloadDataFiles(self, request):
        if self.mode == 'no rules': raise Refusal(403)
        return f"{self.url}/files/{request['competitionName']}.zip"

    def GetCompetition(self, request): return {'ref': request['competitionName'], 'isKernelsSubmissionsOnly': self.mode == 'notebooks only'}

    def GetSubmissionLimits(self, request):
        n = 10 if self.mode == 'limit' else len(self.submissions)
        return {'numToday': n, 'numTotal': n, 'numAllowedNow': max(0, 10 - n), 'limitedByTotal': False}

    def StartSubmissionUpload(self, request):
        if self.mode == 'no rules': raise Refusal(403)
        return {'token': f'token-{len(self.uploads)}', 'createUrl': f'{self.url}/upload/token-{len(self.uploads)}'}

    def CreateSubmission(self, request):
        "Takes the submission even over the limit, as Kaggle does."
        ref = 100 + len(self.submissions)
        status, score, error = ('ERROR', '', 'Submission must have 28000 rows') if self.mode == 'refused' else ('COMPLETE', self.score, '')
        self.submissions.insert(0, {'ref': ref, 'date': datetime.now(UTC).isoformat(), 'description': request.get('submissionDescription'), 'fileName': 'submission.csv', 'status': status, 'competition': request['competitionName'],
                                    'publicScore': score, 'privateScore': score, 'errorDescription': error, 'content': self.uploads[request['blobFileTokens']],
                                    'polls': {'slow': 3, 'never scored': 10**9}.get(self.mode, 0)})
        return {'message': 'Successfully submitted to Digit Recognizer', 'ref': ref}

    def ListSubmissions(self, request):
        "Twenty to a page, the latest first; a slow one is pending for some polls."
        if self.mode == 'lists nothing' and self.submissions: raise Refusal(500, 'Internal error')
        page, shown = max(1, request.get('page', 1)), []
        for one in [one for one in self.submissions if one['competition'] == request['competitionName']][20*page - 20:20*page]:
            pending, one['polls'] = one['polls'] > 0, one['polls'] - 1
            shown.append({**one, **({'status': 'PENDING', 'publicScore': '', 'privateScore': ''} if pending else {}), 'content': None})
        return {'submissions': [{key: value for key, value in one.items() if key not in ('content', 'polls', 'competition')} for one in shown]}

    def GetDatasetStatus(self, request):
        name = f"{request['ownerSlug']}/{request['datasetSlug']}"
        if name not in self.datasets: raise Refusal(404, f'{name} was not found')
        if self.datasets[name].get('being made', 0):
            self.datasets[name]['being made'] -= 1
            raise Refusal(403, 'Permission was denied')
        return {'status': 'READY'}

    def StartBlobUpload(self, request):
        self.names[f'token-{len(self.uploads)}'] = request['name']
        return self.StartSubmissionUpload(request)

    def CreateDataset(self, request):
        "Takes a data set without files, too."
        files = {file['token']: self.uploads[file['token']] for file in request.get('files', [])}
        if f"{request['ownerSlug']}/{request['slug']}" in self.datasets: return {'status': 'error', 'error': f"The requested title \"{request['slug']}\" is already in use"}
        self.datasets[f"{request['ownerSlug']}/{request['slug']}"] = {**request, 'content': files}
        return {'status': 'ok', 'url': f"{self.url}/datasets/{request['slug']}", 'ref': request['slug']}

    def ListDatasetFiles(self, request):
        dataset = self.datasets[f"{request['ownerSlug']}/{request['datasetSlug']}"]
        return {'datasetFiles': [{'name': self.names[token]} for token in dataset['content']]}

    def SaveKernel(self, request):
        "A new version; what it leaves is there when it has run."
        kernel = self.kernels.setdefault(request['slug'], {'versions': [], 'sessions': []})
        kernel['versions'].append(request)
        kernel['sessions'].append({'polls': 0, 'failed': self.mode == 'kernel fails'})
        kernel['outputs'] = self.run_kernel(request['text']) if self.run_kernel else {}
        invalid = {'invalidCompetitionSources': ['digit-recognizer']} if self.mode == 'no competition' else {}
        return {'ref': '/code/' + request['slug'], 'url': f"https://www.kaggle.com/code/{request['slug']}", 'versionNumber': len(kernel['versions']), **invalid}

    def find_kernel(self, request):
        name = f"{request['userName']}/{request['kernelSlug']}"
        if name not in self.kernels: raise Refusal(403, "Permission 'kernels.get' was denied")
        return self.kernels[name]

    def GetKernel(self, request): return {'metadata': {'currentVersionNumber': len(self.find_kernel(request)['versions'])}, 'blob': {}}

    def GetKernelSessionStatus(self, request):
        "Of a version, by its label; running for two polls. Without a label the session before, for as long as the new one has not been asked about."
        sessions, label = self.find_kernel(request)['sessions'], request.get('versionLabel', '')
        if self.mode == 'status unknown' or label.startswith('v') and int(label[1:]) > len(sessions): raise Refusal(404, 'There is no such session')
        session = sessions[int(label[1:]) - 1] if label else sessions[max(0, len(sessions) - 2)]
        session['polls'] += 1
        if session['polls'] <= 2 or self.mode == 'never ends': return {'status': 'RUNNING'}
        return {'status': 'ERROR', 'failureMessage': 'Your notebook tried to allocate more memory than is available.'} if session['failed'] else {'status': 'COMPLETE'}

    def GetAcceleratorQuotaStatistics(self, request): return {'gpuQuota': {'timeUsed': '16200s', 'totalTimeAllowed': '108000s'}}

    def ListKernelSessionOutput(self, request):
        if self.mode == 'no output': raise Refusal(404, 'There is no output')
        self.outputs = self.find_kernel(request)['outputs']
        return {'files': [{'url': f'{self.url}/output/{name}', 'fileName': name} for name in self.outputs], 'log': '[{"data": "what it said"}]'}
