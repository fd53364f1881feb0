"""Starts fakepve with the world of a JSON file, and beside it an endpoint for faults.

Run by fakepve.rs: fakepve_launch.py SETTINGS CERTIFICATE KEY. SETTINGS has `nodes`, `storages`, `templates` and `tokens` as pve-sim's
own settings have them, `privileges` (token -> path -> list), and `time_scale` (real seconds for each of Proxmox's).
Both ends listen on loopback, on free ports; a line of JSON on the output says where the endpoint is.

    GET    /state        where the API listens, and VMs, volumes and requests as they stand
    POST   /call         {"what": NAME, "args": [...], "kwargs": {...}}: one of fakepve's own scenarios
    POST   /privileges   {TOKEN: {PATH: [PRIVILEGE, ...]}}: all that anyone holds from now on
    POST   /secrets      {TOKEN: SECRET}: all tokens that are known from now on
    POST   /guest/VMID   {"acpi": false, ...}: how a guest behaves
    DELETE /faults       no request fails on purpose any more
"""

import asyncio
import inspect
import json
import sys

import fakepve
from aiohttp import web

MIB = 1024 ** 2
# What may be called from outside: faults, and nothing that reads files.
SCENARIOS = ('fail', 'set_node_offline', 'lose_quorum', 'regain_quorum', 'hold_config_lock', 'release_config_lock',
             'snapshot_lock', 'unlock', 'slow_network', 'flaky_network')
BEHAVIOUR = ('acpi', 'shutdown_secs', 'start_secs', 'stop_secs', 'start_error', 'agent')


def size_text(mib):
    return '{0}G'.format(mib // 1024) if mib % 1024 == 0 else '{0}M'.format(mib)


def add_storage(pve, storage):
    free = (storage['total_mib'] - storage['used_mib']) * MIB
    entry = {'type': storage['kind'], 'active': 1, 'content': ','.join(storage['content']), 'files': set(),
             'avail': free, 'total': storage['total_mib'] * MIB}
    if storage['shared']:
        entry['shared'] = 1
    if storage.get('nodes'):
        entry['nodes'] = ','.join(storage['nodes'])
    more = {'dir': {'path': '/var/lib/vz'}, 'lvmthin': {'vgname': 'pve', 'thinpool': 'data'},
            'nfs': {'path': '/mnt/pve/' + storage['name'], 'server': '192.0.2.9', 'export': '/export'}}
    entry.update(more.get(storage['kind'], {}))
    pve.storages[storage['name']] = entry


def add_template(pve, template):
    vmid, storage, bus = template['vmid'], template['storage'], template['bus']
    files = pve.storages[storage]['type'] in ('dir', 'nfs')
    name = 'base-{0}-disk-0'.format(vmid)
    disk = '{0}/{1}.qcow2'.format(vmid, name) if files else name
    volumes = pve.storages[storage].setdefault('volumes', {})
    volumes[disk] = {'content': 'images', 'format': 'qcow2' if files else 'raw', 'size': template['disk_mib'] * MIB,
                     'vmid': vmid, 'ctime': 1790000000}
    config = {'memory': template['memory_mib'], 'cores': 1, 'sockets': 1, 'scsihw': 'virtio-scsi-single',
              'ostype': 'l26', 'template': 1, 'net0': 'virtio=BC:24:11:00:00:{0:02X},bridge=vmbr0'.format(vmid % 256),
              'smbios1': 'uuid=00000000-0000-4000-8000-{0:012d}'.format(vmid),
              bus + '0': '{0}:{1},size={2}'.format(storage, disk, size_text(template['disk_mib']))}
    if template['cloud_init']:
        config['ide2'] = '{0}:vm-{1}-cloudinit,media=cdrom'.format(storage, vmid)
    if template['boot']:
        config['boot'] = template['boot']
    pve.add_vm(vmid, template['name'], node=template['node'], config=config, template=True)


def set_privileges(pve, privileges):
    pve.acl = {}
    for token, paths in privileges.items():
        for path, names in paths.items():
            pve.grant(token, path, *names)


def build(settings):
    pve = fakepve.FakePve(host='127.0.0.1', port=0)
    pve.time_scale = settings.get('time_scale', 0.0)
    pve.lock_wait = settings.get('lock_wait', 10)
    pve.nodes, pve.storages = {}, {}
    for node in settings['nodes']:
        pve.add_node(node['name'], node['online'])
    for storage in settings['storages']:
        add_storage(pve, storage)
    for template in settings['templates']:
        add_template(pve, template)
    pve.apitokens = dict(settings['tokens'])
    set_privileges(pve, settings.get('privileges', {}))
    return pve


def state_of(pve):
    vms = {}
    for vm in pve.vms:
        vms[str(vm.vmid)] = {'node': vm.node, 'running': vm.status == 'running', 'template': vm.template,
                             'config': {k: str(v) for k, v in vm.config.items()},
                             'pending': {k: v if v is None else str(v) for k, v in vm.pending.items()}}
    volumes = ['{0}:{1}'.format(sid, name) for sid, store in pve.storages.items() for name in store.get('volumes', {})]
    requests = [{'method': method, 'path': path} for method, path, _body in pve.requests]
    return {'api': pve.url, 'version': fakepve.__version__, 'vms': vms, 'volumes': volumes, 'requests': requests}


def control(pve):
    routes = web.RouteTableDef()

    @routes.get('/state')
    async def _state(request):
        return web.json_response(state_of(pve))

    @routes.post('/call')
    async def _call(request):
        body = await request.json()
        if body['what'] not in SCENARIOS:
            return web.json_response({'error': 'known: ' + ', '.join(SCENARIOS)}, status=400)
        answer = getattr(pve, body['what'])(*body.get('args', []), **body.get('kwargs', {}))
        if inspect.isawaitable(answer):
            await answer
        return web.json_response(None)

    @routes.post('/privileges')
    async def _privileges(request):
        set_privileges(pve, await request.json())
        return web.json_response(None)

    @routes.post('/secrets')
    async def _secrets(request):
        pve.apitokens = dict(await request.json())
        return web.json_response(None)

    @routes.post('/guest/{vmid}')
    async def _guest(request):
        vm = pve.vm(int(request.match_info['vmid']))
        body = await request.json()
        unknown = [key for key in body if key not in BEHAVIOUR]
        if vm is None or unknown:
            return web.json_response({'error': 'no such VM, or not one of ' + ', '.join(BEHAVIOUR)}, status=400)
        for key, value in body.items():
            setattr(vm, key, value)
        return web.json_response(None)

    @routes.delete('/faults')
    async def _faults(request):
        pve.failures.clear()
        pve.flaky_network()
        pve.slow_network(0.0)
        return web.json_response(None)

    app = web.Application()
    app.add_routes(routes)
    return app


async def main(settings, certificate, key):
    with open(settings) as file:
        pve = build(json.load(file))
    await pve.start(certificate, key)
    runner = web.AppRunner(control(pve))
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    print(json.dumps({'listening': 'http://127.0.0.1:{0}'.format(runner.addresses[0][1])}), flush=True)
    await asyncio.Event().wait()


if __name__ == '__main__':
    asyncio.run(main(*sys.argv[1:4]))
